// What stands beside the image: times and sizes, candidates, notes.

export const byId = (id) => document.getElementById(id);

// An element with attributes and children; text stays text.
export function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, label]) => make("option", { value }, label)));
  select.value = chosen;
}

// Marks the chosen one of the buttons of a radio group, and makes it the one that Tab reaches.
export function mark(group, chosen) {
  for (const button of group.querySelectorAll("[role=radio]")) {
    button.setAttribute("aria-checked", button === chosen);
    button.tabIndex = button === chosen ? 0 : -1;
  }
}

// Arrow keys inside a radio group choose the next button, as they do in any other.
export function walkable(group) {
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const buttons = [...group.querySelectorAll("[role=radio]")];
    if (!step || !buttons.includes(event.target)) return;
    event.preventDefault();
    const next = buttons[(buttons.indexOf(event.target) + step + buttons.length) % buttons.length];
    next.focus();
    next.click();
  });
}

export const count = (number) => number.toLocaleString("en");

export function milliseconds(value) {
  return value == null ? "–" : `${value < 10 ? value.toFixed(1) : count(Math.round(value))} ms`;
}

export function percent(share) {
  const value = 100 * share;
  return `${value && value < 0.01 ? "< 0.01" : value.toFixed(value < 10 ? 2 : 1)} %`;
}

// The table: columns are [label, encode_ms, answer or null], and the difference of the two, if there are two.
export function figures(columns, candidateOf, difference) {
  const two = columns.length > 1;
  const row = (name, cells, kind) => make("tr", { class: kind }, make("th", { scope: "row" }, name), ...cells);
  const cells = (value) => columns.map((column) => make("td", {}, value(column)));
  const chosen = ({ answer }) => answer && answer.candidates[candidateOf(answer)];
  const head = columns.map(({ label }, at) =>
    make("th", { scope: "col" }, two ? make("i", { class: `swatch ${at ? "other" : "one"}` }) : null, label));
  const body = [
    row("Encoder, once", cells(({ encodeMs }) => milliseconds(encodeMs))),
    row("Decoder, per click", cells(({ answer }) => milliseconds(answer?.decode_ms))),
    row("Mask", cells((column) => (chosen(column) ? `${count(chosen(column).area)} px` : "–"))),
  ];
  if (two) {
    const text = difference ? `${count(difference.pixels)} px, IoU ${difference.iou.toFixed(4)}` : "–";
    body.push(row("Difference", [make("td", { colspan: 2, id: "difference" }, text)], "different"));
  }
  const header = two ? make("thead", {}, make("tr", {}, make("td"), ...head)) : "";
  byId("figures").replaceChildren(header, make("tbody", {}, ...body));
}

export function notes(texts) {
  byId("notes").replaceChildren(...[...new Set(texts)].map((text) => make("li", {}, text)));
}

const NAMES = { 0: "single", 1: "part 1", 2: "part 2", 3: "part 3" };

// Buttons with a small image each; draw(canvas, index) paints it.
export function candidates(answer, chosen, draw, choose) {
  byId("candidates-card").hidden = !answer;
  if (!answer) return;
  byId("score-kind").textContent = answer.score_kind === "stability" ? "score: stability" : "score: predicted IoU";
  const buttons = answer.candidates.map((candidate, index) => {
    const canvas = make("canvas", { width: 140, height: 104 });
    draw(canvas, index);
    const name = NAMES[candidate.token] ?? "mask";
    const score = candidate.score == null ? "no score" : candidate.score.toFixed(3);
    const title = `${name} (${index + 1})`;
    const attributes = { type: "button", role: "radio", "aria-label": `${name}, score ${score}`, title };
    const best = index === answer.best ? make("b", { class: "best" }, "best") : null;
    return make("button", { ...attributes, onclick: () => choose(index) }, canvas, best, score);
  });
  byId("candidates").replaceChildren(...buttons);
  mark(byId("candidates"), buttons[chosen]);
}

// The bar: a share of 0 to 1, or null where it is unknown; no text hides it.
export function progress(text, share = null) {
  const bar = byId("progress");
  bar.hidden = !text;
  bar.classList.toggle("unknown", share === null);
  bar.querySelector("i").style.width = share === null ? "" : `${100 * share}%`;
  bar.querySelector("span").textContent = text ?? "";
  if (share === null) bar.removeAttribute("aria-valuenow");
  else bar.setAttribute("aria-valuenow", Math.round(100 * share));
}

export function message(text) {
  byId("message").hidden = !text;
  byId("message").firstElementChild.textContent = text ?? "";
}
