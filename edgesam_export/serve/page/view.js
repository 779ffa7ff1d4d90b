// The image and what is drawn over it, at the size that the window leaves.

import { BLUE, colourOf, Painter } from "./drawing.js";
import { byId } from "./panel.js";
import { candidateOf, counterpart, layerOf, state } from "./state.js";

const NARROW = matchMedia("(max-width: 860px)");
const NARROW_SHARE = 0.62; // of the window's height, so that tools and results are in sight too
const LEAST = 240; // CSS pixels
const AROUND = 1.35; // a thumbnail shows so much more than the mask
const CLOSEST = 0.08; // share of the image's side that a thumbnail shows at least

const stage = byId("stage");
const painter = new Painter(byId("canvas"));

// Makes the image as large as there is room.
export function fit(pointing) {
  if (!state.image) return;
  const { clientWidth, clientHeight } = byId("area");
  const room = NARROW.matches ? Math.max(innerHeight * NARROW_SHARE, LEAST) : clientHeight;
  const scale = Math.min(clientWidth / state.image.width, room / state.image.height);
  stage.style.width = `${Math.max(1, Math.floor(state.image.width * scale))}px`;
  stage.style.height = `${Math.max(1, Math.floor(state.image.height * scale))}px`;
  draw(pointing);
}

export function draw(pointing) {
  if (stage.hidden) return;
  const unit = devicePixelRatio || 1;
  painter.begin(Math.round(stage.clientWidth * unit), Math.round(stage.clientHeight * unit), unit);
  if (state.everything) drawEverything(state.everything);
  else drawPrompt();
  if (pointing.draft) painter.box(pointing.draft);
  if (pointing.cursor) painter.crosshair(...pointing.cursor);
}

function drawPrompt() {
  const { prompts: { points, box }, result, image } = state;
  if (result) drawAnswers(result);
  const proposed = box ? null : result?.answers[0].prompt_box;
  if (box) painter.box(box);
  else if (proposed) painter.box(proposed.map((value, at) => value / (at % 2 ? image.height : image.width)), true);
  for (const point of points) painter.point(...point);
}

function drawAnswers({ answers: [first, second] }) {
  const one = layerOf(first, candidateOf(first));
  const other = second && layerOf(second, counterpart().candidate);
  if (!other || state.view === "one") painter.mask(one, BLUE);
  else if (state.view === "other") painter.mask(other, BLUE);
  else {
    const colours = getComputedStyle(document.body);
    painter.mask(one, BLUE, { tint: 0.3, line: 0, rim: 0 });
    painter.excess(one, other, colours.getPropertyValue("--one"));
    painter.excess(other, one, colours.getPropertyValue("--other"));
  }
}

function drawEverything({ layers }) {
  layers.forEach((layer, at) => {
    const hovered = state.hovered === at;
    painter.mask(layer, colourOf(at), { tint: hovered ? 0.85 : 0.55, line: 1, rim: hovered ? 1.5 : 0.8 });
  });
}

// Paints a candidate with the part of the image around it.
export function drawThumbnail(answer, canvas, index) {
  const { width, height } = state.image, layer = layerOf(answer, index), context = canvas.getContext("2d");
  const [x, y, wide, high] = layer.empty ? [0, 0, 1, 1] : layer.extent;
  const share = Math.min(1, Math.max(AROUND * Math.max(wide, high), CLOSEST));
  const zoom = Math.max(canvas.width / width, canvas.height / height) / share;
  const within = (offset, side, room) => Math.min(0, Math.max(room - side, offset));
  const left = within(canvas.width / 2 - (x + wide / 2) * width * zoom, width * zoom, canvas.width);
  const top = within(canvas.height / 2 - (y + high / 2) * height * zoom, height * zoom, canvas.height);
  context.drawImage(byId("image"), left, top, width * zoom, height * zoom);
  const sheet = new OffscreenCanvas(canvas.width, canvas.height), over = sheet.getContext("2d");
  const placed = [left + x * width * zoom, top + y * height * zoom, wide * width * zoom, high * height * zoom];
  if (!layer.empty) over.drawImage(layer.canvas, ...placed);
  over.globalCompositeOperation = "source-in";
  over.fillStyle = BLUE;
  over.fillRect(0, 0, canvas.width, canvas.height);
  context.globalAlpha = 0.6;
  context.drawImage(sheet, 0, 0);
}
