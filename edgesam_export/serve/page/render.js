// From what is chosen and answered to what the page says.

import * as panel from "./panel.js";
import { byId } from "./panel.js";
import { candidateOf, counterpart, hasPrompt, labelOf, state } from "./state.js";
import * as view from "./view.js";

// Brings the page up to date; choose(index) is called for a candidate.
export function render(pointing, choose) {
  if (!state.model) return;
  const { image, everything: found, searching } = state;
  stage.toggleAttribute("data-drags", state.tool === "box");
  panel.mark(byId("toolbar"), document.querySelector(`[data-tool=${state.tool}]`));
  panel.mark(byId("views"), document.querySelector(`[data-view=${state.view}]`));
  byId("everything").setAttribute("aria-pressed", Boolean(found || searching));
  byId("everything").querySelector("span").textContent = searching ? "Stop" : "Everything";
  byId("everything").disabled = !image;
  byId("undo").disabled = !state.history.length;
  byId("clear").disabled = !hasPrompt() && !found && !searching;
  for (const button of document.querySelectorAll("[data-download]"))
    button.disabled = found ? button.dataset.download === "mask" : !state.result;
  renderResults(choose);
  showStatus();
  view.draw(pointing);
}

function renderResults(choose) {
  const { image, result, everything: found } = state;
  const [first, second] = result?.answers ?? [];
  const other = second && counterpart();
  const columns = [state.backend, state.against].filter(Boolean).map((id) => {
    const answer = result?.answers.find(({ backend }) => backend === id);
    return { label: labelOf(id), encodeMs: state.encoded[id], answer };
  });
  panel.figures(columns, (answer) => (answer === second ? other.candidate : candidateOf(answer)), other);
  byId("views").hidden = !second;
  const paint = (canvas, index) => view.drawThumbnail(first, canvas, index);
  panel.candidates(found ? null : first, first && candidateOf(first), paint, choose);
  byId("found").textContent = found ? foundText(found) : "";
  const warnings = [image, found, first, second].flatMap((source) => source?.warnings ?? []);
  panel.notes([...warnings, ...about(state.model)]);
}

function foundText({ annotations, total_ms: total }) {
  if (!annotations.length) return "no mask passed the filters: lower them, or take a finer grid";
  return `${annotations.length === 1 ? "1 mask" : `${annotations.length} masks`} in ${(total / 1000).toFixed(1)} s`;
}

// What a model should not be asked, or was not made for.
function about({ name, trained_prompts: kinds, image_domain: domain }) {
  const boxes = `${name} was trained on prompts of kind ${kinds.join(", ")}: draw a box; masks of points may be wrong`;
  const images = `${name} was trained on ${domain}`;
  return [takesPoints(kinds) ? "" : boxes, domain === "photographs" ? "" : images].filter(Boolean);
}

export const takesPoints = (kinds) => !kinds.length || kinds.includes("point");

// The line below the image: its name and size, the position or the mask under the pointer.
export function showStatus() {
  const { image, everything: found, hovered, position } = state;
  let text = "";
  if (image && found && hovered !== null) {
    const { area, predicted_iou: score, id } = found.annotations[hovered];
    text = `mask ${id}: ${panel.count(area)} px, score ${score.toFixed(3)}`;
  } else if (image) {
    text = `${image.name} · ${image.width} × ${image.height}`;
    if (position) text += ` · x ${Math.floor(position[0] * image.width)}, y ${Math.floor(position[1] * image.height)}`;
  }
  byId("status").textContent = text;
}
