"use strict";
// Charts: each takes a width in pixels and returns an SVG

const rounds = [...new Set(data.progress.map((row) => row.round))];
const percent = { domain: [0, 1], label: null, tickFormat: "%", grid: true };
const baseAlone = data.measured === "base";
const byRound = { type: "point", label: "round", labelOffset: 34, domain: rounds, padding: 0.3 };

function accuracy(width) {
  const h = data.heldout;
  const rows = [["mean@k", h.before, h.after], ["greedy", h.greedy_before, h.greedy_after],
    ["maj@k", h.maj_before, h.maj_after], ["pass@k", h.pass_before, h.pass_after]]
    .map(([measure, before, after]) => ({ measure, before, after }));
  const ends = rows.map(({ measure, before, after }) => {
    const [low, high] = d3.extent([before, after]);
    return { measure, low, high, lowText: baseAlone ? "" : (100 * low).toFixed(0), highText: (100 * high).toFixed(0) };
  });
  const band = [{ measure: "mean@k", low: h.before + h.diff_low, high: h.before + h.diff_high }];
  return Plot.plot({
    width, height: 200, marginLeft: 65, marginRight: 25, x: percent, y: { domain: rows.map((row) => row.measure), label: null },
    marks: [
      Plot.ruleY(band, { y: "measure", x1: "low", x2: "high", stroke: "var(--pale)", strokeWidth: 14 }),
      Plot.ruleY(rows, { y: "measure", x1: "before", x2: "after", stroke: "var(--quiet)" }),
      Plot.dot(rows, { y: "measure", x: "before", r: 5, fill: "var(--card)", stroke: "var(--quiet)", strokeWidth: 2 }),
      Plot.dot(baseAlone ? [] : rows, { y: "measure", x: "after", r: 6, fill: "var(--accent)" }),
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
      Plot.lineY(data.progress, { x: "round", y: "value", z: "measure", stroke: "measure", strokeWidth: 2 }),
      Plot.dot(data.progress, { x: "round", y: "value", z: "measure", fill: "measure", r: 4, tip: true }),
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

// By metric, how much of the way to its limit the last checked round has used up.
const lastChecked = d3.max(data.health.filter((row) => row.limit !== null), (row) => row.round);
const used = new Map(data.health.filter((row) => row.round === lastChecked).map((row) => [row.name, row.used ?? 0]));

function limits(width) {
  const rows = d3.sort([...used].filter(([, share]) => share >= 0.005), ([, share]) => -share);
  const color = ([, share]) => (share > 1 ? "var(--bad)" : share > 0.8 ? "var(--second)" : "var(--accent)");
  return Plot.plot({
    width, height: 40 + 22 * Math.max(rows.length, 1), marginLeft: 165, marginRight: 45,
    x: { label: null, tickFormat: "%", grid: true, ticks: 4, domain: [0, Math.max(1, d3.max(rows, ([, share]) => Math.min(share, 2)) ?? 1)], clamp: true },
    y: { label: null, domain: rows.map(([name]) => name) },
    marks: [
      Plot.barX(rows, { y: "0", x: ([, share]) => Math.min(share, 2), fill: color }),
      Plot.text(rows, { y: "0", x: ([, share]) => Math.min(share, 2), text: ([, share]) => `${(100 * share).toFixed(0)} %`, textAnchor: "start", dx: 4 }),
      Plot.ruleX([1], { stroke: "var(--bad)", strokeDasharray: "4,3" }),
    ],
  });
}

function addHealth() {
  const home = document.getElementById("health");
  const known = new Set(data.health.filter((row) => row.value !== null).map((row) => row.name));
  const names = d3.sort(Object.keys(data.signs).filter((name) => known.has(name)), (name) => -(used.get(name) ?? 0));
  if (!names.length) home.append(el("p", {}, "Nothing is measured yet."));
  for (const name of names) {
    const failed = data.health.some((row) => row.name === name && !row.passed);
    const figure = el("figure", { className: failed ? "failed" : "" }, el("h3", {}, name), el("div", { className: "plot" }),
      el("figcaption", {}, data.signs[name]));
    home.append(figure);
    charts.push([figure, health(name)]);
  }
}

const draw = { accuracy, progress, reasons, operators, limits, lengths, seconds: stages(data.seconds), tokens: stages(data.tokens) };
const empty = { reasons: !data.reasons.length, operators: !data.operators.length, limits: !used.size };
for (const name in empty) document.querySelector(`[data-chart=${name}]`).hidden = empty[name];
const charts = [...document.querySelectorAll("[data-chart]:not([hidden])")].map((figure) => [figure, draw[figure.dataset.chart]]);
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
