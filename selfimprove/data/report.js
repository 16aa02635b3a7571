"use strict";
// The report's page: charts by Observable Plot, and a browser of samples. Texts only ever become text nodes.

const data = JSON.parse(document.getElementById("data").textContent);
const responses = data.responses.map((row) => Object.fromEntries(data.columns.map((name, i) => [name, row[i]])));
const byId = new Map(responses.map((response) => [response.id, response]));
const written = data.prompts.map(() => []);
for (const response of responses) written[response.prompt].push(response);

function el(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children.filter((child) => child !== null));
  return element;
}

function plain(name) {
  return String(name).replaceAll("_", " ");
}

// --- charts: each takes a width in pixels and returns an SVG -----------------------------------------------------

const rounds = [...new Set(data.progress.map((row) => row.round))];
const percent = { domain: [0, 1], label: null, tickFormat: "%", grid: true };
const byRound = { type: "point", label: "round", labelOffset: 34, domain: rounds, padding: 0.3 };

function accuracy(width) {
  const h = data.heldout;
  const rows = [["mean@k", h.before, h.after], ["greedy", h.greedy_before, h.greedy_after],
    ["maj@k", h.maj_before, h.maj_after], ["pass@k", h.pass_before, h.pass_after]]
    .map(([measure, before, after]) => ({ measure, before, after }));
  const ends = rows.map(({ measure, before, after }) => {
    const [low, high] = d3.extent([before, after]);
    return { measure, low, high, lowText: (100 * low).toFixed(0), highText: (100 * high).toFixed(0) };
  });
  const band = [{ measure: "mean@k", low: h.before + h.diff_low, high: h.before + h.diff_high }];
  return Plot.plot({
    width, height: 200, marginLeft: 65, marginRight: 25, x: percent, y: { domain: rows.map((row) => row.measure), label: null },
    marks: [
      Plot.ruleY(band, { y: "measure", x1: "low", x2: "high", stroke: "var(--pale)", strokeWidth: 14 }),
      Plot.ruleY(rows, { y: "measure", x1: "before", x2: "after", stroke: "var(--quiet)" }),
      Plot.dot(rows, { y: "measure", x: "before", r: 5, fill: "var(--card)", stroke: "var(--quiet)", strokeWidth: 2 }),
      Plot.dot(rows, { y: "measure", x: "after", r: 6, fill: "var(--accent)" }),
      Plot.text(ends, { y: "measure", x: "low", text: "lowText", textAnchor: "end", dx: -10 }),
      Plot.text(ends, { y: "measure", x: "high", text: "highText", textAnchor: "start", dx: 10 }),
    ],
  });
}

function progress(width) {
  const measures = ["agreement (no labels)", "mean@k accuracy", "greedy accuracy"]
    .filter((name) => data.progress.some((row) => row.measure === name));
  const colors = ["var(--second)", "var(--accent)", "var(--third)"];
  return Plot.plot({
    width, height: 200, marginLeft: 48, marginBottom: 38, x: byRound, y: percent,
    color: { domain: measures, range: colors.slice(0, measures.length), legend: true },
    marks: [
      Plot.lineY(data.progress, { x: "round", y: "value", stroke: "measure", strokeWidth: 2 }),
      Plot.dot(data.progress, { x: "round", y: "value", fill: "measure", r: 4, tip: true }),
    ],
  });
}

function reasons(width) {
  const names = d3.groupSort(data.reasons, (rows) => -d3.sum(rows, (row) => row.count), (row) => row.reason);
  const counts = d3.rollups(data.reasons, (rows) => d3.sum(rows, (row) => row.count), (row) => row.reason);
  return Plot.plot({
    width, height: 40 + 24 * names.length, marginLeft: 100, marginRight: 50,
    x: { label: null, grid: true, ticks: 4, tickFormat: "~s" }, y: { domain: names, label: null, tickFormat: plain },
    marks: [
      Plot.barX(counts, { y: "0", x: "1", fill: ([name]) => (name === "kept" ? "var(--third)" : "var(--pale)") }),
      Plot.text(counts, { y: "0", x: "1", text: ([, count]) => count.toLocaleString(), textAnchor: "start", dx: 4 }),
    ],
  });
}

function operators(width) {
  const names = [...new Set(data.operators.map((row) => row.origin))];
  return Plot.plot({
    width, height: 40 + data.operators.length * 26, marginLeft: 70, marginRight: 75,
    x: { label: null, grid: true, ticks: 4, tickFormat: "~s" },
    y: { domain: names, label: null }, fy: { label: null, tickFormat: (round) => `round ${round}` },
    marks: [
      Plot.barX(data.operators, { fy: "round", y: "origin", x: "candidates", fill: "var(--pale)" }),
      Plot.barX(data.operators, { fy: "round", y: "origin", x: "survivors", fill: "var(--accent)" }),
      Plot.text(data.operators, {
        fy: "round", y: "origin", x: "candidates", textAnchor: "start", dx: 4, fontSize: 11,
        text: (d) => (d.candidates ? `${((100 * d.survivors) / d.candidates).toFixed(1)} %` : ""),
      }),
    ],
  });
}

function lengths(width) {
  const who = [...new Set(data.lengths.map((row) => row.who))];
  const colors = { "held-out, base": "var(--quiet)", "held-out, now": "var(--accent)", survivors: "var(--third)" };
  const longest = d3.max(data.lengths, (row) => row.tokens) ?? 1;
  const bin = { y: "sum", filter: null };
  const thresholds = longest <= 30 ? d3.range(0, longest + 2) : 20;
  return Plot.plot({
    width, height: 200, marginLeft: 48, marginBottom: 38, x: { label: "new tokens", labelOffset: 34 }, y: { ...percent, domain: undefined, nice: true },
    color: { domain: who, range: who.map((name) => colors[name]), legend: true },
    marks: [
      Plot.lineY(data.lengths, Plot.binX(bin, {
        x: { value: "tokens", thresholds }, y: "share", stroke: "who", strokeWidth: 2, curve: "step",
      })),
      Plot.ruleY([0], { stroke: "var(--line)" }),
    ],
  });
}

function stages(rows) {
  return (width) => Plot.plot({
    width, height: 40 + 22 * rows.length, marginLeft: 70, marginRight: 55,
    x: { label: null, grid: true, ticks: 4, tickFormat: "~s" }, y: { domain: rows.map((row) => row.stage), label: null },
    marks: [
      Plot.barX(rows, { y: "stage", x: "value", fill: "var(--accent)" }),
      Plot.text(rows, { y: "stage", x: "value", text: (d) => Math.round(d.value).toLocaleString(), textAnchor: "start", dx: 4 }),
    ],
  });
}

function health(name) {
  const rows = data.health.filter((row) => row.name === name);
  const seen = rows.filter((row) => row.value !== null);
  const limits = rows.filter((row) => row.limit !== null);
  return (width) => Plot.plot({
    width, height: 150, marginBottom: 38, x: byRound, y: { label: null, nice: true, grid: true, ticks: 4 },
    marks: [
      Plot.lineY(limits, { x: "round", y: "limit", stroke: "var(--bad)", strokeDasharray: "4,3" }),
      Plot.text(limits, { x: "round", y: "limit", text: () => "–", fill: "var(--bad)", fontSize: 18 }),
      Plot.lineY(seen, { x: "round", y: "value", stroke: "var(--accent)", strokeWidth: 2 }),
      Plot.dot(seen, {
        x: "round", y: "value", r: 5, symbol: (d) => (d.passed ? "circle" : "times"), strokeWidth: 2,
        stroke: (d) => (d.passed ? "var(--accent)" : "var(--bad)"), fill: (d) => (d.passed ? "var(--accent)" : "none"),
        channels: { limit: "limit" }, tip: true,
      }),
    ],
  });
}

function addHealth() {
  const home = document.getElementById("health");
  const known = new Set(data.health.filter((row) => row.value !== null).map((row) => row.name));
  const names = Object.keys(data.signs).filter((name) => known.has(name));
  if (!names.length) home.append(el("p", {}, "Nothing is measured yet."));
  for (const name of names) {
    const failed = data.health.some((row) => row.name === name && !row.passed);
    const figure = el("figure", { className: failed ? "failed" : "" }, el("h3", {}, name), el("div", { className: "plot" }),
      el("figcaption", {}, data.signs[name]));
    home.append(figure);
    charts.push([figure, health(name)]);
  }
}

const draw = { accuracy, progress, reasons, operators, lengths, seconds: stages(data.seconds), tokens: stages(data.tokens) };
const charts = [...document.querySelectorAll("[data-chart]")].map((figure) => [figure, draw[figure.dataset.chart]]);
addHealth();

let drawn = 0;
function drawCharts() {
  if (drawn === document.body.clientWidth) return;
  drawn = document.body.clientWidth;
  for (const [figure, chart] of charts) {
    const home = figure.querySelector(".plot");
    const plot = chart(home.clientWidth);
    plot.setAttribute("role", "img");
    plot.setAttribute("aria-label", figure.querySelector("h3").textContent);
    home.replaceChildren(plot);
  }
}
addEventListener("resize", drawCharts);

// --- samples: the filters live in the address (#q=...&reason=kept), so that a view can be linked to ---------------

const PAGE = 25;
const form = document.querySelector(".filters");
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
  const body = el("div");
  const details = el("details", { className: "prompt" },
    el("summary", {}, el("span", { className: "text" }, prompt.text),
      el("span", { className: "facts" }, el("b", {}, verdict), `${hits.size} of ${written[place].length} responses`)),
    body);
  const fill = () => {
    if (!details.open || body.childElementCount) return;
    if (prompt.votes.length) body.append(showVotes(prompt));
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
  const head = el("tr", {}, ...["Round", "Vote", "Answer", "Agreement", "Support"].map((name) => el("th", {}, name)));
  const rows = prompt.votes.map((v) => el("tr", {},
    ...[v.round, names[v.vote] ?? v.vote, v.answer ?? "none", v.agreement.toFixed(2), v.support.toFixed(2)]
      .map((value) => el("td", {}, String(value)))));
  return el("div", { className: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)));
}

function showResponse(response, aside = false) {
  const { id, round, origin, answer, share, reason, value, limit, decided, finish, tokens, parents } = response;
  const why = [reason && plain(reason), value === null ? null : `at ${value}`, limit === null ? null : `limit ${limit}`];
  const facts = el("div", { className: "facts" },
    `#${id}`, ` round ${round}`, el("b", {}, origin),
    share === null && answer === null ? null : el("span", {}, "answers ", el("b", {}, answer ?? "nothing readable")),
    share === null ? null : `vote share ${share.toFixed(2)}`,
    reason ? el("span", { className: reason === "kept" ? "kept" : "" }, `${why.filter(Boolean).join(", ")} (round ${decided})`) : null,
    `${tokens} tokens${finish === "length" ? ", cut" : ""}`);
  const article = el("article", { className: aside ? "response aside" : "response" }, facts,
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
  const article = showResponse(response);
  if (response.origin !== "critique") {
    article.prepend(el("div", { className: "text quiet" }, data.prompts[response.prompt].text));
  }
  return article;
}

function later(action) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(action, 150);
  };
}

function toAddress() {
  const asked = [...new FormData(form)].filter(([, value]) => value);
  history.replaceState(null, "", `#${new URLSearchParams(asked)}`);
  search();
}

function fromAddress() {
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const name of ["q", "split", "origin", "reason", "round", "order"]) form.elements[name].value = asked.get(name) ?? "";
  search();
  if (asked.size) document.getElementById("samples").scrollIntoView();
}

options("origin", d3.sort(new Set(responses.map((response) => response.origin))));
options("reason", ["kept", "dropped", ...d3.sort(new Set(responses.map((r) => r.reason).filter((r) => r && r !== "kept")))]);
options("round", d3.sort(new Set(responses.map((response) => response.round))));
form.addEventListener("input", later(toAddress));
form.addEventListener("reset", () => setTimeout(toAddress));
form.addEventListener("submit", (event) => event.preventDefault());
more.addEventListener("click", showMore);
addEventListener("hashchange", fromAddress);
fromAddress();
drawCharts(); // after the list, which may have brought a scroll bar
document.documentElement.dataset.ready = "yes";
