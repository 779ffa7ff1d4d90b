// From mouse, pen, finger and keyboard to points and boxes. Positions are shares of the image's sides.

const TAP = 6; // CSS pixels that a press may move and still be a point
const STEPS = 100; // presses of an arrow key from one side to the other
const LARGE = 10;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// events: tool() -> "object", "background" or "box"; onPoint(x, y, label); onBox([x0, y0, x1, y1]), or null for a click
// where a box was due; onHover(x, y), both null outside; onChange() when draft or cursor did.
export class Pointing {
  constructor(stage, events) {
    Object.assign(this, { stage, events, press: null, cursor: null, corner: null });
    stage.addEventListener("pointerdown", (event) => this.down(event));
    stage.addEventListener("pointermove", (event) => this.move(event));
    stage.addEventListener("pointerup", (event) => this.up(event));
    stage.addEventListener("pointercancel", () => this.cancel());
    stage.addEventListener("pointerleave", () => events.onHover(null, null));
    stage.addEventListener("contextmenu", (event) => event.preventDefault());
    stage.addEventListener("keydown", (event) => this.key(event));
    stage.addEventListener("blur", () => this.leave());
  }

  at(event) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    const inside = (value) => Math.min(Math.max(value, 0), 1);
    return [inside((event.clientX - left) / width), inside((event.clientY - top) / height)];
  }

  // The box that is being drawn, null when there is none.
  get draft() {
    if (this.corner && this.cursor) return ordered(this.corner, this.cursor);
    return this.press?.moved ? ordered(this.press.from, this.press.to) : null;
  }

  down(event) {
    if (this.press || event.button > 2 || event.button === 1) return;
    this.leave();
    const { pointerId: id, clientX: x, clientY: y, button } = event;
    // A finger that moves scrolls the page, unless it is to draw a box.
    const drags = event.pointerType !== "touch" || this.events.tool() === "box";
    this.press = { id, from: this.at(event), x, y, button, drags, moved: false, lost: false };
    if (this.press.drags) this.stage.setPointerCapture(event.pointerId);
  }

  move(event) {
    if (event.pointerType !== "touch") this.events.onHover(...this.at(event));
    if (this.press?.id !== event.pointerId) return;
    const far = Math.hypot(event.clientX - this.press.x, event.clientY - this.press.y) > TAP;
    this.press.moved ||= far && this.press.drags;
    this.press.lost ||= far && !this.press.drags;
    this.press.to = this.at(event);
    if (this.press.moved) this.events.onChange();
  }

  up(event) {
    const press = this.press;
    if (press?.id !== event.pointerId) return;
    this.press = null;
    if (press.moved) this.events.onBox(ordered(press.from, this.at(event)));
    else if (press.lost) return;
    else if (this.events.tool() === "box") this.events.onBox(null);
    else this.events.onPoint(...press.from, this.label(event.shiftKey || press.button === 2));
  }

  cancel() {
    this.press = null;
    this.events.onChange();
  }

  label(otherwise) {
    return (this.events.tool() === "background") !== otherwise ? 0 : 1;
  }

  key(event) {
    const [x, y] = ARROWS[event.key] ?? [0, 0];
    const places = event.key === "Enter" || event.key === " ";
    if ((!x && !y && !places) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const step = (event.shiftKey ? LARGE : 1) / STEPS;
    const [left, top] = this.cursor ?? [0.5, 0.5];
    const within = (value) => Math.min(Math.max(value, 0), 1);
    const known = this.cursor !== null;
    this.cursor = places || !known ? [left, top] : [within(left + x * step), within(top + y * step)];
    if (places && known) this.place(event.shiftKey);
    this.events.onHover(...this.cursor);
    this.events.onChange();
  }

  place(otherwise) {
    if (this.events.tool() !== "box") this.events.onPoint(...this.cursor, this.label(otherwise));
    else if (!this.corner) this.corner = this.cursor;
    else {
      const box = ordered(this.corner, this.cursor);
      this.corner = null;
      this.events.onBox(box);
    }
  }

  leave() {
    if (!this.cursor) return;
    this.cursor = this.corner = null;
    this.events.onChange();
  }
}

function ordered([x0, y0], [x1, y1]) {
  return [Math.min(x0, x1), Math.min(y0, y1), Math.max(x0, x1), Math.max(y0, y1)];
}
