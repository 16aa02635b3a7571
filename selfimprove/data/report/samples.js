"use strict";
// The list of all prompts and responses; its filters live in the address.

const PAGE = 25;
const FEW = 3; // responses of a held-out prompt that are shown by themselves when they are looked for
const form = document.getElementById("filters");
const list = document.getElementById("list");
const more = document.getElementById("more");
const folded = data.prompts.map((prompt) => prompt.text.toLowerCase());
let found = [];

function options(name, values) {
  for (const value of values) form.elements[name].append(el("option", { value }, plain(value)));
}

function matcher({ q, split, origin, reason, round }) {
  const id = /^#\d+$/.test(q) ? Number(q.slice(1)) : null;
  const words = id === null ? q.toLowerCase().split(/\s+/).filter(Boolean) : [];
  return (response) => {
    const prompt = data.prompts[response.prompt];
    if (id !== null && response.id !== id) return false;
    if (split && prompt.split !== split) return false;
    if (origin && response.origin !== origin) return false;
    if (reason === "dropped" ? !response.reason || response.reason === "kept" : reason && response.reason !== reason) return false;
    if (round && response.round !== Number(round)) return false;
    if (!words.length) return true;
    const text = `${folded[response.prompt]}\n${response.text.toLowerCase()}`;
    return words.every((word) => text.includes(word) || prompt.id.startsWith(word));
  };
}

function search() {
  const asked = Object.fromEntries(new FormData(form));
  const matches = matcher(asked);
  found = [];
  let count = 0;
  data.prompts.forEach((prompt, place) => {
    const hits = new Set(written[place].filter(matches).map((response) => response.id));
    if (hits.size) found.push({ prompt, place, hits });
    count += hits.size;
  });
  const support = ({ prompt }) => prompt.votes.at(-1)?.support ?? NaN;
  if (asked.order) found = d3.sort(found, asked.order === "agreed" ? (a, b) => d3.descending(support(a), support(b)) : support);
  document.getElementById("count").value =
    `${found.length.toLocaleString()} of ${data.prompts.length.toLocaleString()} prompts, ` +
    `${count.toLocaleString()} of ${responses.length.toLocaleString()} responses`;
  list.replaceChildren();
  showMore();
}

function showMore() {
  const begin = list.childElementCount;
  list.append(...found.slice(begin, begin + PAGE).map(showPrompt));
  more.hidden = list.childElementCount >= found.length;
}

function showPrompt({ prompt, place, hits }) {
  const last = prompt.votes.at(-1);
  const verdict = last ? `${last.answer ?? "no answer"} · support ${last.support.toFixed(2)}` : "held out";
  const measured = heldoutPlace.get(prompt.id);
  const body = el("div");
  const details = el("details", { className: "prompt" },
    el("summary", {}, el("span", { className: "text" }, prompt.text),
      el("span", { className: "facts" }, el("b", {}, verdict), `${hits.size} of ${written[place].length} responses`)),
    body);
  const fill = () => {
    if (!details.open || body.childElementCount) return;
    if (prompt.votes.length) body.append(showVotes(prompt));
    if (measured !== undefined) {
      const few = hits.size <= FEW && hits.size < written[place].length;
      if (few) body.append(...written[place].filter(({ id }) => hits.has(id)).map((response) => showResponse(response)));
      const rounds = [0, ...heldout.rounds.map(({ round }) => round)].filter((round) => heldout.sides[round][measured]);
      body.append(el("div", { className: "sides" }, ...rounds.map((round) => sideInFull(measured, round))));
      return;
    }
    const inOrder = d3.sort(written[place], (a, b) => hits.has(b.id) - hits.has(a.id) || a.id - b.id);
    body.append(...inOrder.map((response) => showResponse(response, !hits.has(response.id))));
  };
  details.addEventListener("toggle", fill);
  if (found.length === 1) {
    details.open = true;
    fill();
  }
  return details;
}

function showVotes(prompt) {
  const names = ["samples", "with exemplars", "with revise and stitch"];
  const rows = prompt.votes.map((v) => [v.round, names[v.vote] ?? v.vote, v.answer ?? "none", v.agreement.toFixed(2), v.support.toFixed(2)]);
  return el("div", { className: "scroll" }, table(["Round", "Vote", "Answer", "Agreement", "Support"], rows.map((row) => row.map(String))));
}

function showResponse(response, aside = false, ancestor = false) {
  const { id, round, origin, answer, share, right, reason, value, limit, decided, finish, tokens, parents } = response;
  const why = [reason && plain(reason), value === null ? null : `at ${value}`, limit === null ? null : `limit ${limit}`];
  const facts = el("div", { className: "facts" },
    sampleLink(id), ` round ${round}`, el("b", {}, origin),
    share === null && answer === null ? null : el("span", {}, "answers ", el("b", {}, answer === null ? "nothing readable" : named(answer)), " ", mark(right, true)),
    share === null ? null : `vote share ${share.toFixed(2)}`,
    reason ? el("span", { className: reason === "kept" ? "kept" : "" }, `${why.filter(Boolean).join(", ")} (round ${decided})`) : null,
    `${tokens} tokens${finish === "length" ? ", cut" : ""}`);
  const article = el("article", { className: aside ? "response aside" : "response", id: ancestor ? "" : `r-${id}` }, facts,
    el("div", { className: "text" }, response.text || "(empty)"));
  if (parents.length) {
    const button = el("button", { type: "button" }, `made from ${parents.length}`);
    button.addEventListener("click", () => {
      button.disabled = true;
      article.append(el("div", { className: "ancestors" }, ...parents.map(showAncestor)));
    });
    facts.append(button);
  }
  return article;
}

function showAncestor(id) {
  const response = byId.get(id);
  if (!response) return el("p", { className: "quiet" }, `#${id} is not in this report: selfimprove memory RUN show ${id}`);
  const article = showResponse(response, false, true);
  if (response.origin !== "critique") {
    article.prepend(el("div", { className: "text quiet" }, data.prompts[response.prompt].text));
  }
  return article;
}

function searched() {
  toAddress(Object.fromEntries(new FormData(form)));
  search();
}

// A link to one response (#q=%23ID) lands on it, opened; one to a held-out prompt (#prompt=ID) on its row.
function fromAddress() {
  const asked = address();
  const names = ["q", "split", "origin", "reason", "round", "order"];
  for (const name of names) form.elements[name].value = asked.get(name) ?? "";
  search();
  const change = heldout.rounds.length ? changesFromAddress() : null;
  drawCharts(); // after the lists, which may have brought a scroll bar, and before the page is scrolled
  const sample = document.getElementById(`r-${asked.get("q")?.slice(1)}`);
  const there = sample ?? (names.some((name) => asked.get(name)) ? document.getElementById("samples") : change);
  there?.scrollIntoView({ block: sample ? "center" : "start" });
  sample?.classList.add("wanted");
}

options("origin", d3.sort(new Set(responses.map((response) => response.origin))));
options("reason", ["kept", "dropped", ...d3.sort(new Set(responses.map((r) => r.reason).filter((r) => r && r !== "kept")))]);
options("round", d3.sort(new Set(responses.map((response) => response.round))));
form.addEventListener("input", later(searched));
form.addEventListener("reset", () => setTimeout(searched));
form.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", showMore);
addEventListener("hashchange", fromAddress);
fromAddress();
document.documentElement.dataset.ready = "yes";
