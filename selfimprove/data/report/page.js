"use strict";
// What all parts of the page use: the data, elements, the address. Texts only ever become text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const responses = data.responses.map((row) => Object.fromEntries(data.columns.map((name, i) => [name, row[i]])));
const byId = new Map(responses.map((response) => [response.id, response]));
const written = data.prompts.map(() => []);
for (const response of responses) written[response.prompt].push(response);

function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

function plain(name) {
  return String(name).replaceAll("_", " ");
}

// Right or wrong, by a sign and in words: colour alone does not say it. `right` of `count` responses; null: not audited.
function mark(right, count) {
  if (right === null || right === undefined) return null;
  const [sign, word] = right === count ? ["✓", "right"] : right === 0 ? ["✗", "wrong"] : [`${right}/${count} ✓`, `${right} of ${count} right`];
  return el("span", { className: right ? "kept" : "wrong", title: word, ariaLabel: word, role: "img" }, sign);
}

function table(head, rows) {
  const cell = (tag) => (value) => (value instanceof Node && value.tagName === tag.toUpperCase() ? value : el(tag, {}, value ?? ""));
  return el("table", {}, el("thead", {}, el("tr", {}, ...head.map(cell("th")))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell("td"))))));
}

// The view is in the address (#q=...&reason=kept&show=regressed), so that it can be linked to.
function address() {
  return new URLSearchParams(location.hash.slice(1));
}

function toAddress(values) {
  const asked = address();
  for (const [name, value] of Object.entries(values)) {
    if (value) asked.set(name, value);
    else asked.delete(name);
  }
  history.replaceState(null, "", `#${asked}`);
}

function later(action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, 150);
  };
}
