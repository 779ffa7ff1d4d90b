// The page: what happens when something is chosen, dropped or clicked.

import { compute, download, setup, upload } from "./api.js";
import * as panel from "./panel.js";
import { byId, make } from "./panel.js";
import { Pointing } from "./pointing.js";
import { render as renderPage, showStatus, takesPoints } from "./render.js";
import { Layer } from "./runs.js";
import { candidateOf, hasPrompt, labelOf, state } from "./state.js";
import * as view from "./view.js";

const HISTORY = 500; // steps that can be undone
const STEPS = { opening: "Opening", encoding: "Encoding with", waiting: "Waiting", masks: "Finding masks with" };
const PATIENCE_MS = 150; // what takes less needs no bar
const NEARLY = 0.98; // of the bar, when something takes longer than the last time
const NOTHING = { points: [], box: null };

const stage = byId("stage");
let running = null; // ends the computation that the page waits for
let pointing = null;

const render = () => renderPage(pointing, choose);

// ---------------------------------------------------------------------------------------------------- computations

function showProgress({ step, backend, elapsed_ms: elapsed, expected_ms: expected, done, total }) {
  if (step === "waiting" && elapsed < PATIENCE_MS) return;
  const seconds = (time) => `${(time / 1000).toFixed(1)} s`;
  const words = [STEPS[step] ?? step, backend ? labelOf(backend) : ""].join(" ").trim();
  if (total && step !== "encoding") panel.progress(`${words}: ${done} of ${total} points`, done / total);
  else if (!expected) panel.progress(`${words}, ${seconds(elapsed)}`);
  else {
    const share = Math.min(elapsed / expected, NEARLY);
    panel.progress(`${words}, ${seconds(elapsed)} of about ${seconds(expected)}`, share);
  }
}

// Returns the result of a computation, which takes the place of the one before; null when it was given up. An image
// that the server keeps no longer is sent again, once.
async function run(path, document, again = true) {
  running?.abort();
  const own = (running = new AbortController());
  const report = (step) => own === running && showProgress(step);
  try {
    return await compute(path, { image: state.image.token, ...document }, report, own.signal);
  } catch (error) {
    if (own !== running || error.name === "AbortError" || error.code === "stale") return null;
    if (error.code !== "gone" || !again) throw error;
    await send(state.image.file);
    return run(path, document, false);
  } finally {
    if (own === running) {
      running = null;
      panel.progress(null);
    }
  }
}

// Does something that may fail; what is wrong is said on the page.
async function attempt(work) {
  panel.message(null);
  try {
    await work();
  } catch (error) {
    panel.progress(null);
    panel.message(error.message);
    if (!error.code) throw error; // a defect of the page
  }
  render();
}

// The prompt in pixels of the image.
function prompt() {
  const { width, height } = state.image;
  // A click on the far edge is one on the last pixel.
  const within = (share, side) => Math.min(share * side, side - 0.001);
  const points = state.prompts.points.map(([x, y, label]) => [within(x, width), within(y, height), label]);
  const box = state.prompts.box?.map((share, at) => share * (at % 2 ? height : width)) ?? null;
  return { points, box };
}

// Asks for what the page shows. Without a prompt that is the embedding alone, so that the first click is quick. added:
// a prompt that is refused was just added, and goes.
function refresh({ added = false } = {}) {
  state.everything = null;
  render();
  return state.image ? attempt(() => (hasPrompt() ? askForMasks(added) : encode())) : null;
}

async function encode() {
  state.result = null;
  for (const backend of [state.backend, state.against].filter(Boolean)) {
    const result = await run("/api/encode", { backend });
    if (!result) return;
    state.encoded[backend] = result.encode_ms;
  }
}

async function askForMasks(added) {
  try {
    const result = await run("/api/predict", { backend: state.backend, against: state.against, ...prompt() });
    if (!result) return;
    for (const { backend, encode_ms: time } of result.answers) state.encoded[backend] = time;
    state.result = result;
  } catch (error) {
    if (added && error.code === "refused") state.prompts = state.history.pop();
    throw error;
  }
}

async function everything() {
  if (!state.image) return;
  if (state.searching) {
    running?.abort();
    return;
  }
  if (state.everything) {
    state.everything = null;
    render();
    return;
  }
  const options = {
    backend: state.backend,
    grid: Number(byId("grid").value),
    min_score: byId("min-score").valueAsNumber,
    min_stability: byId("min-stability").valueAsNumber,
  };
  state.searching = true;
  render();
  await attempt(async () => {
    const found = await run("/api/everything", options).finally(() => (state.searching = false));
    if (!found) return;
    found.annotations.sort((one, other) => other.area - one.area); // small ones are drawn over large ones
    found.layers = found.annotations.map(({ segmentation }) => new Layer(segmentation));
    state.everything = found;
  });
}

// ---------------------------------------------------------------------------------------------------------- images

async function send(file) {
  const report = (share) =>
    share < 1 ? panel.progress(`Sending, ${Math.round(100 * share)} %`, share) : panel.progress("Reading the image");
  const { image, ...facts } = await upload(file, report);
  panel.progress(null);
  state.image = { ...facts, token: image, file, name: file.name || "image" };
}

async function open(file) {
  if (!file) return;
  running?.abort();
  await attempt(async () => {
    const limit = state.setup.limits.upload_bytes;
    if (file.size > limit) {
      const text = `${file.name} is larger than ${limit >> 20} MiB; scale it down and try again`;
      throw Object.assign(new Error(text), { code: "refused" });
    }
    await send(file);
    Object.assign(state, { prompts: NOTHING, history: [], result: null, candidate: null });
    Object.assign(state, { everything: null, encoded: {} });
    const image = byId("image");
    image.src = `/api/images/${state.image.token}`;
    image.alt = state.image.name;
    await image.decode();
    stage.hidden = false;
    byId("drop").hidden = true;
    byId("area").classList.add("filled");
    view.fit(pointing);
    stage.focus({ preventScroll: true });
  });
  if (!byId("message").hidden) return;
  await refresh();
}

// Opens the first of the files that were dropped; what happens to anything else is said.
async function openDropped(files) {
  if (!files.length) return panel.message("that is no file; save the image first, then drop the file here");
  await open(files[0]);
  if (files.length > 1 && byId("message").hidden) panel.message(`${files.length} files; ${files[0].name} is shown`);
}

async function sample(path) {
  const content = await (await fetch(path)).blob();
  await open(new File([content], path.split("/").at(-1)));
}

async function save(kind) {
  const found = state.everything;
  if (found ? kind === "mask" : !state.result) return;
  const endings = found
    ? { overlay: "_everything.png", rle: "_masks.json" }
    : { mask: "_mask.png", overlay: "_overlay.png", rle: "_mask.json" };
  await attempt(async () => {
    const content = found && kind === "rle" ? documentOf(found) : await fetchFile(found ? "everything" : kind);
    const address = URL.createObjectURL(content);
    make("a", { href: address, download: state.image.name.replace(/\.[^.]+$/, "") + endings[kind] }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });
}

function documentOf({ layers, warnings, annotations, ...found }) {
  const sorted = [...annotations].sort((one, other) => one.id - other.id);
  return new Blob([JSON.stringify({ ...found, annotations: sorted }, null, 2)], { type: "application/json" });
}

async function fetchFile(kind, again = true) {
  const candidate = state.result ? candidateOf(state.result.answers[0]) : 0;
  try {
    return await download({ image: state.image.token, backend: state.backend, kind, candidate, ...prompt() });
  } catch (error) {
    // The masks of everything mode went with the image.
    if (error.code !== "gone" || !again || kind === "everything") throw error;
    await send(state.image.file);
    return fetchFile(kind, false);
  }
}

// ------------------------------------------------------------------------------------------------------- prompts

function change(prompts) {
  state.history = [...state.history.slice(1 - HISTORY), state.prompts];
  state.prompts = prompts;
  state.candidate = null;
  return refresh({ added: true });
}

const addPoint = (x, y, label) => change({ ...state.prompts, points: [...state.prompts.points, [x, y, label]] });

function addBox(box) {
  const { width, height } = state.image;
  const large = box && (box[2] - box[0]) * width >= 1 && (box[3] - box[1]) * height >= 1;
  if (large) return change({ ...state.prompts, box });
  panel.message("a box needs two corners: drag from one to the opposite one");
  return render();
}

function undo() {
  if (!state.history.length) return;
  state.prompts = state.history.pop();
  state.candidate = null;
  refresh();
}

function clear() {
  panel.message(null);
  if (state.searching) running?.abort();
  else if (state.everything) {
    state.everything = null;
    render();
  } else if (hasPrompt()) change(NOTHING);
}

function hover(x, y) {
  state.position = x === null ? null : [x, y];
  const layers = state.everything?.layers ?? [];
  const found = x === null ? -1 : layers.findLastIndex((layer) => layer.has(x, y)); // the last one is on top
  const before = state.hovered;
  state.hovered = found < 0 ? null : found;
  if (state.hovered !== before) view.draw(pointing);
  showStatus();
}

// ------------------------------------------------------------------------------------------------------- choices

function choose(index) {
  if (!state.result || state.everything || index >= state.result.answers[0].candidates.length) return;
  state.candidate = index;
  render();
}

function chooseModel(name) {
  state.model = state.setup.models.find((model) => model.name === name);
  state.tool = takesPoints(state.model.trained_prompts) ? "object" : "box";
  state.result = null;
  byId("model-name").textContent = name;
  const backends = state.model.backends.map(({ id, label }) => [id, label]);
  const shipped = backends.find(([id]) => id.endsWith("/coreml/fp16")) ?? backends[0]; // what a phone computes
  panel.fill(byId("backend"), backends, shipped[0]);
  chooseBackend(shipped[0], null);
}

function chooseBackend(backend, against) {
  state.backend = backend;
  state.against = against === backend ? null : against;
  state.view = state.against ? state.view : "one";
  const others = state.model.backends.filter(({ id }) => id !== backend).map(({ id, label }) => [id, label]);
  panel.fill(byId("against"), [["", "nothing"], ...others], state.against ?? "");
  refresh();
}

function chooseView(name) {
  if (byId("views").hidden) return;
  state.view = name;
  render();
}

function chooseTool(name) {
  state.tool = name;
  render();
}

const KEYS = {
  p: () => chooseTool("object"),
  n: () => chooseTool("background"),
  b: () => chooseTool("box"),
  u: undo,
  c: clear,
  escape: clear,
  e: everything,
  o: () => byId("file").click(),
  m: () => save("mask"),
  l: () => save("overlay"),
  r: () => save("rle"),
  v: () => chooseView({ one: "other", other: "difference", difference: "one" }[state.view]),
  0: () => choose(null),
  ...Object.fromEntries([0, 1, 2, 3].map((index) => [index + 1, () => choose(index)])),
};

function onKey(event) {
  if (event.target.closest("input, select") || event.altKey) return;
  const command = event.ctrlKey || event.metaKey;
  const action = command ? { z: undo }[event.key] : KEYS[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
}

function listen() {
  const on = (id, kind, action) => byId(id).addEventListener(kind, action);
  const [area, file] = [byId("area"), byId("file")];
  const onHover = (x, y) => hover(x, y);
  const onChange = () => view.draw(pointing);
  pointing = new Pointing(stage, { tool: () => state.tool, onPoint: addPoint, onBox: addBox, onChange, onHover });
  for (const id of ["choose", "choose-here"]) on(id, "click", () => file.click());
  on("file", "change", () => {
    open(file.files[0]);
    file.value = ""; // the same file can be chosen again
  });
  addEventListener("paste", (event) => open(event.clipboardData.files[0]));
  addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget ?? area.classList.remove("over"));
  addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    openDropped([...event.dataTransfer.files]);
  });
  addEventListener("keydown", onKey);
  new ResizeObserver(() => view.fit(pointing)).observe(area);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);
  for (const group of ["toolbar", "views", "candidates"]) panel.walkable(byId(group));
  for (const [name, action] of [["tool", chooseTool], ["view", chooseView], ["download", save]])
    for (const button of document.querySelectorAll(`[data-${name}]`))
      button.addEventListener("click", () => action(button.dataset[name]));
  on("undo", "click", undo);
  on("clear", "click", clear);
  on("everything", "click", everything);
  on("message", "click", (event) => event.target.closest("button") && panel.message(null));
  on("model", "change", (event) => chooseModel(event.target.value));
  on("backend", "change", (event) => chooseBackend(event.target.value, state.against));
  on("against", "change", (event) => {
    state.view = event.target.value ? "difference" : "one";
    chooseBackend(state.backend, event.target.value || null);
  });
}

function showSamples(paths) {
  const buttons = paths.map((path) => {
    const name = path.split("/").at(-1).split(".")[0];
    return make("button", { type: "button", onclick: () => sample(path) }, make("img", { src: path, alt: "" }), name);
  });
  byId("samples").replaceChildren(...buttons);
}

listen();
await attempt(async () => {
  state.setup = await setup();
  const names = state.setup.models.map(({ name }) => name);
  panel.fill(byId("model"), names.map((name) => [name, name]), names[0]);
  byId("model-label").hidden = names.length < 2;
  byId("model-name").hidden = names.length > 1;
  showSamples(state.setup.samples);
  chooseModel(names[0]);
});
