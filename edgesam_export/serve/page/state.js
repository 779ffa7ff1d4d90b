// What is chosen and what was answered; every module reads it, main.js alone changes it.

import { Layer } from "./runs.js";

export const state = {
  setup: null, model: null, backend: null, against: null,
  image: null, // { file, name, token, width, height, warnings }
  prompts: { points: [], box: null }, // as shares of the sides: points [x, y, label], box [x0, y0, x1, y1]
  history: [], tool: "object",
  result: null, // of a click: { answers, difference }
  candidate: null, // chosen by hand, null: the best
  view: "one", // "one", "other" or "difference"
  everything: null, searching: false, hovered: null, position: null,
  encoded: {}, // backend -> milliseconds
};

export const hasPrompt = () => state.prompts.points.length > 0 || state.prompts.box !== null;

export const labelOf = (id) => state.model.backends.find((backend) => backend.id === id)?.label ?? id;

export function candidateOf(answer) {
  return state.candidate !== null && state.candidate < answer.candidates.length ? state.candidate : answer.best;
}

// How the candidate of the second answer that belongs to the shown one differs: { candidate, pixels, iou }.
export const counterpart = () => state.result.difference[candidateOf(state.result.answers[0])];

// The mask of a candidate, made when it is first shown.
export function layerOf(answer, index) {
  answer.layers ??= answer.candidates.map(() => null);
  return (answer.layers[index] ??= new Layer(answer.candidates[index].segmentation));
}
