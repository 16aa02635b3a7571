"use strict";
// What changed on the held-out prompts: families, filters, and one row a prompt that opens to both answers.

const heldout = data.heldout_prompts;
const heldoutPlace = new Map(heldout.prompts.map((prompt, place) => [prompt.id, place]));
const audited = heldout.rounds.some(({ round }) => heldout.changes[round][0].some((row) => row.kind));
const controls = document.getElementById("changes");
const pick = { to: controls.querySelector("[name=to]"), against: controls.querySelector("[name=against]"), family: controls.querySelector("[name=family]"), find: controls.querySelector("[name=find]") };
const changed = document.getElementById("changed");
const moreChanges = document.getElementById("more-changes");
const CHANGES = 40;
const FILTERS = [
  ["all", "all", () => true, "All measured held-out prompts, the most regressed first."],
  ["regressed", "regressed", (row) => row.kind === "regressed", "Fewer of the samples are right than before."],
  ["improved", "improved", (row) => row.kind === "improved", "More of the samples are right than before."],
  ["changed", "changed", (row) => row.changed, "The most frequent answer is another one than before."],
  ["open", "open", (row) => row.open, "No answer has more than half of the samples."],
];
const filters = audited ? FILTERS : FILTERS.filter(([name]) => !["regressed", "improved"].includes(name));
let show = "all";
let shownRows = [];

function named(answer) {
  return answer === null ? "no answer" : heldout.names[answer] ?? answer;
}

function roundName(round) {
  const decision = heldout.rounds.find((one) => one.round === round)?.decision;
  return round === 0 ? "Base" : `Round ${round}${round === heldout.current ? " (now)" : decision && decision !== "keep" ? " (rejected)" : ""}`;
}

// The round whose answers stand before: the base, or the last round kept before the one that is shown.
function comparedWith(round) {
  return pick.against.value === "kept" ? heldout.kept[round] : 0;
}

// Offer the last kept round where there is one.
function offerKept(round, asked) {
  const kept = heldout.kept[round];
  const choices = [["", "Base"], ...(kept ? [["kept", `Last kept: round ${kept}`]] : [])];
  pick.against.replaceChildren(...choices.map(([value, name]) => el("option", { value }, name)));
  pick.against.value = kept && asked === "kept" ? "kept" : "";
}

function percent0(value) {
  return `${(100 * value).toFixed(0)} %`;
}

// --- families ------------------------------------------------------------------------------------------------------

function worse(old, now) {
  return now < old ? "n wrong" : "n";
}

function familyRow(family) {
  const button = el("button", { type: "button", className: "link" }, family.name);
  button.addEventListener("click", () => {
    pick.family.value = pick.family.value === family.name ? "" : family.name;
    choose();
  });
  const { before, after, mean, greedy } = family;
  const top = after.top_answer === null ? "" : ` ${named(after.top_answer)}`;
  const row = [button, el("td", { className: "n" }, String(family.prompts))];
  if (audited) {
    row.push(el("td", { className: mean ? worse(...mean) : "n" }, mean ? `${percent0(mean[0])} → ${percent0(mean[1])}` : "–"));
    row.push(el("td", { className: greedy ? worse(...greedy) : "n" }, greedy ? `${greedy[0]} → ${greedy[1]}` : "–"));
    row.push(el("td", { className: "n aside" }, `${family.improved} ▲  ${family.regressed} ▼`));
  }
  row.push(el("td", { className: "n aside" }, `${before.agreement.toFixed(2)} → ${after.agreement.toFixed(2)}`));
  row.push(el("td", { className: after.top_fraction - before.top_fraction > 0.2 && family.prompts > 1 ? "wrong" : "" },
    `${percent0(before.top_fraction)} → ${percent0(after.top_fraction)}${top}`));
  return row;
}

function showFamilies(round) {
  const numbers = (names) => names.map((name) => el("th", { className: ["Agreement", "Better, worse"].includes(name) ? "n aside" : "n" }, name));
  const head = ["Family, worst first", ...numbers(["Prompts", ...(audited ? [`Right, mean@${data.k}`, "Greedy right", "Better, worse"] : []), "Agreement"]), "Share of the top answer"];
  document.getElementById("families").replaceChildren(table(head, heldout.families[round][comparedWith(round)].map(familyRow)));
}

// --- one prompt ------------------------------------------------------------------------------------------------------

function sideCell(side, label) {
  const top = side.groups.find(([answer]) => answer !== null);
  const samples = d3.sum(side.groups, ([, ids]) => ids.length);
  const greedy = side.greedy;
  const differs = greedy && (!top || greedy[0] !== top[0]);
  return el("span", { className: "side" }, el("span", { className: "label" }, label),
    el("span", { className: "answer" }, top ? named(top[0]) : "no answer"), top ? el("span", { className: "quiet" }, ` ${top[1].length} of ${samples} `) : null,
    top ? mark(top[2], top[1].length) : null,
    differs ? el("span", { className: "greedy quiet" }, "greedy: ", el("b", {}, named(greedy[0])), " ", mark(greedy[2], 1)) : null);
}

const SIGNS = { improved: ["▲", "kept"], regressed: ["▼", "wrong"], same: ["·", "quiet"] };

function changeRow(row) {
  const place = heldoutPlace.get(row.id);
  const prompt = heldout.prompts[place];
  const round = Number(pick.to.value);
  const from = comparedWith(round);
  const [old, now] = [from, round].map((one) => heldout.sides[one][place]);
  const [sign, className] = SIGNS[row.kind] ?? [row.changed ? "≠" : "·", "quiet"];
  const samples = d3.sum(now.groups, ([, ids]) => ids.length);
  const right = row.by === null ? "" : `${Math.round(old.mean * samples)} → ${Math.round(now.mean * samples)} of ${samples}`;
  const details = el("details", { className: "change", id: `p-${row.id}` },
    el("summary", { className: "row" },
      el("span", { className, title: row.kind ?? (row.changed ? "changed" : "same"), role: "img", ariaLabel: row.kind ?? (row.changed ? "changed" : "same") }, sign),
      el("span", {}, el("span", { className: "text" }, prompt.text), el("span", { className: "quiet family" }, prompt.family)),
      sideCell(old, roundName(from)), sideCell(now, roundName(round)), el("span", { className: "n right" }, right)));
  details.addEventListener("toggle", () => {
    if (details.open && details.childElementCount === 1) details.append(bothSides(place, from, round));
    if (details.open) toAddress({ prompt: row.id });
  });
  return details;
}

function bothSides(place, from, round) {
  const others = [0, ...heldout.rounds.map((one) => one.round)].filter((one) => one !== from && one !== round && heldout.sides[one][place]);
  const home = el("div", { className: "sides" }, ...[from, round].map((one) => sideInFull(place, one)));
  if (!others.length) return home;
  const more = el("details", { className: "others" }, el("summary", {}, `Other rounds: ${others.map(roundName).join(", ")}`));
  more.addEventListener("toggle", () => {
    if (more.open && more.childElementCount === 1) more.append(el("div", { className: "sides" }, ...others.map((one) => sideInFull(place, one))));
  });
  return el("div", {}, home, more);
}

// All answers of one policy to a prompt: the greedy one in full, the samples grouped by answer with their counts.
function sideInFull(place, round) {
  const side = heldout.sides[round][place];
  const home = el("div", { className: "side-full" }, el("h3", {}, roundName(round)));
  if (side.greedy) {
    const [answer, [id], right] = side.greedy;
    home.append(el("div", { className: "facts" }, "greedy", el("b", {}, named(answer)), mark(right, 1), sampleLink(id)));
    if (byId.has(id)) home.append(el("div", { className: "text" }, byId.get(id).text || "(empty)"));
  }
  const samples = d3.sum(side.groups, ([, ids]) => ids.length);
  for (const [answer, ids, right] of side.groups) {
    const texts = d3.rollups(ids.filter((id) => byId.has(id)), (same) => same, (id) => byId.get(id).text);
    const bar = el("span", { className: "bar" });
    bar.style.width = `${(100 * ids.length) / samples}%`;
    home.append(el("details", { className: "group" },
      el("summary", {}, bar, el("span", { className: "count" }, `${ids.length} ×`), el("b", {}, named(answer)), " ", mark(right, ids.length)),
      ...texts.map(([text, same]) => el("div", { className: "response" },
        el("div", { className: "facts" }, same.length > 1 ? `${same.length} ×` : null, ...same.map(sampleLink)),
        el("div", { className: "text" }, text || "(empty)"))),
      texts.length ? null : el("p", { className: "quiet" }, "Its texts are not in this page.")));
  }
  return home;
}

function sampleLink(id) {
  return byId.has(id) ? el("a", { href: `#q=%23${id}` }, `#${id}`) : null;
}

// --- filters ---------------------------------------------------------------------------------------------------------

function choose() {
  offerKept(Number(pick.to.value), pick.against.value);
  toAddress({ against: pick.against.value, show: show === "all" ? "" : show, family: pick.family.value, find: pick.find.value, to: pick.to.value === String(heldout.shown) ? "" : pick.to.value });
  showChanges();
}

function showChanges() {
  const round = Number(pick.to.value);
  const from = comparedWith(round);
  const words = pick.find.value.toLowerCase().split(/\s+/).filter(Boolean);
  const within = heldout.changes[round][from].filter((row) => {
    const place = heldoutPlace.get(row.id);
    const prompt = heldout.prompts[place];
    if (pick.family.value && prompt.family !== pick.family.value) return false;
    const said = [from, round].flatMap((one) => heldout.sides[one][place].groups.map(([answer]) => named(answer)));
    const text = [prompt.text, prompt.id, ...said].join("\n").toLowerCase();
    return words.every((word) => text.includes(word));
  });
  const [, , test, meaning] = filters.find(([name]) => name === show);
  document.getElementById("meaning").textContent = meaning;
  document.getElementById("before").textContent = roundName(from);
  document.getElementById("now").textContent = roundName(round);
  controls.querySelector(".chips").replaceChildren(...filters.map(([name, label, passes]) => {
    const chip = el("button", { type: "button", ariaPressed: String(name === show) }, label, el("b", {}, ` ${within.filter(passes).length}`));
    chip.dataset.show = name;
    return chip;
  }));
  showFamilies(round);
  shownRows = within.filter(test);
  if (show === "improved") shownRows.reverse();
  changed.replaceChildren();
  showMoreChanges();
  if (!shownRows.length) changed.append(el("p", { className: "quiet" }, "No prompt is like that."));
}

function showMoreChanges() {
  const begin = changed.childElementCount;
  changed.append(...shownRows.slice(begin, begin + CHANGES).map(changeRow));
  moreChanges.hidden = changed.childElementCount >= shownRows.length;
}

function changesFromAddress() {
  const asked = address();
  const known = (select, value) => ([...select.options].some((option) => option.value === value) ? value : null);
  show = filters.some(([name]) => name === asked.get("show")) ? asked.get("show") : "all";
  pick.to.value = known(pick.to, asked.get("to")) ?? String(heldout.shown);
  offerKept(Number(pick.to.value), asked.get("against"));
  pick.family.value = known(pick.family, asked.get("family")) ?? "";
  pick.find.value = asked.get("find") ?? "";
  showChanges();
  const row = shownRows.findIndex(({ id }) => id === asked.get("prompt"));
  if (row < 0) return null;
  while (changed.childElementCount <= row) showMoreChanges();
  const details = changed.children[row];
  details.open = true;
  return details;
}

if (heldout.rounds.length) {
  for (const { round } of heldout.rounds) pick.to.append(el("option", { value: String(round) }, roundName(round)));
  for (const name of d3.sort(new Set(heldout.prompts.map((prompt) => prompt.family)))) pick.family.append(el("option", { value: name }, name));
  controls.querySelector(".chips").addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (!chip) return;
    show = chip.dataset.show;
    choose();
    controls.querySelector(`[data-show=${show}]`).focus(); // the chips were drawn anew
  });
  pick.to.addEventListener("input", choose);
  pick.against.addEventListener("input", choose);
  pick.family.addEventListener("input", choose);
  pick.find.addEventListener("input", later(choose));
  moreChanges.addEventListener("click", showMoreChanges);
} else {
  for (const part of [...controls.children].slice(1)) part.hidden = true;
  controls.append(el("p", {}, "No round is measured yet: there is nothing to compare with the base."));
}
