// What is drawn over the image: masks with their outlines, boxes, points, and the crosshair of the keyboard.

const RING = Array.from({ length: 12 }, (_, at) => [Math.cos((at * Math.PI) / 6), Math.sin((at * Math.PI) / 6)]);
const CROSS = RING.filter((_, at) => at % 3 === 0);

export const BLUE = "#1e78ff";

// A strong colour whose hue is far from those of the numbers before; as the server's overlay has them.
export function colourOf(number) {
  const hue = (0.92 + number * 0.618034) % 1;
  const value = 0.65 + (number % 3 === 1 ? 0 : 0.3);
  const lightness = value * 0.6; // of a saturation of 0.8
  const share = (value - lightness) / Math.min(lightness, 1 - lightness);
  return `hsl(${hue * 360} ${share * 100}% ${lightness * 100}%)`;
}

// Draws onto a canvas whose size is that of the image on the screen, in device pixels.
export class Painter {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.sheet = new OffscreenCanvas(1, 1);
    this.unit = 1;
  }

  // Starts anew. unit: device pixels of a CSS pixel.
  begin(width, height, unit) {
    this.canvas.width = width, this.canvas.height = height;
    this.unit = unit;
  }

  // Where a layer lies on the canvas: x, y, width, height.
  extent(layer) {
    return layer.extent.map((share, at) => share * (at % 2 ? this.canvas.height : this.canvas.width));
  }

  // A sheet around a layer, for what is composed before it is drawn; returns its context, origin at the canvas's.
  around([x, y, width, height], margin) {
    const left = Math.floor(x - margin), top = Math.floor(y - margin);
    this.sheet.width = Math.ceil(width + 2 * margin) + 1, this.sheet.height = Math.ceil(height + 2 * margin) + 1;
    const context = this.sheet.getContext("2d");
    context.translate(-left, -top);
    return { context, left, top };
  }

  // One mask: a tint inside, an outline with a light rim outside.
  mask(layer, colour, { tint = 0.42, line = 2, rim = 1.4, ring = RING } = {}) {
    if (layer.empty) return;
    const [extent, unit] = [this.extent(layer), this.unit];
    const [x, y, width, height] = extent;
    const stamp = (context, dx, dy) => context.drawImage(layer.canvas, x + dx, y + dy, width, height);
    for (const [reach, paint] of [[(line + rim) * unit, "#ffffffd9"], [line * unit, colour]]) {
      if (reach > line * unit && !rim) continue;
      const { context, left, top } = this.around(extent, reach + 1);
      for (const [dx, dy] of ring) stamp(context, dx * reach, dy * reach);
      context.globalCompositeOperation = "destination-out";
      stamp(context, 0, 0);
      this.transfer(context, paint, left, top, 1);
    }
    const { context, left, top } = this.around(extent, 1);
    stamp(context, 0, 0);
    this.transfer(context, colour, left, top, tint);
  }

  // What one mask has and another has not, thickened so that a border of one pixel is seen.
  excess(layer, without, colour) {
    if (layer.empty) return;
    const [extent, unit] = [this.extent(layer), this.unit];
    const found = new OffscreenCanvas(layer.columns, layer.rows);
    const inner = found.getContext("2d");
    inner.drawImage(layer.canvas, 0, 0);
    inner.globalCompositeOperation = "destination-out";
    if (!without.empty) {
      const step = layer.step;
      inner.drawImage(without.canvas, (without.left - layer.left) / step, (without.top - layer.top) / step);
    }
    const [x, y, width, height] = extent;
    const { context, left, top } = this.around(extent, 2 * unit);
    context.imageSmoothingEnabled = false;
    for (const [dx, dy] of [[0, 0], ...CROSS]) context.drawImage(found, x + dx * unit, y + dy * unit, width, height);
    this.transfer(context, colour, left, top, 1);
  }

  // Gives what is on the sheet one colour, and draws it.
  transfer(context, colour, left, top, opacity) {
    context.globalCompositeOperation = "source-in";
    context.fillStyle = colour;
    context.fillRect(left, top, this.sheet.width, this.sheet.height);
    this.context.globalAlpha = opacity;
    this.context.drawImage(this.sheet, left, top);
    this.context.globalAlpha = 1;
  }

  // A box; x0, y0, x1, y1 as shares of the sides.
  box([x0, y0, x1, y1], dashed = false) {
    const { context, unit } = this;
    const { width, height } = this.canvas;
    const sides = [x0 * width, y0 * height, (x1 - x0) * width, (y1 - y0) * height];
    for (const [colour, thick] of [["#ffffffd9", 4.5], ["#ffb000", 2]]) {
      context.setLineDash(dashed ? [6 * unit, 4 * unit] : []);
      context.strokeStyle = colour, context.lineWidth = thick * unit, context.lineJoin = "round";
      context.strokeRect(...sides);
    }
    context.setLineDash([]);
  }

  // A point: a green disc with a plus, a red one with a minus.
  point(x, y, label) {
    const { context, unit } = this;
    const [cx, cy] = [x * this.canvas.width, y * this.canvas.height];
    const disc = (radius, colour) => {
      context.beginPath();
      context.arc(cx, cy, radius * unit, 0, 2 * Math.PI);
      context.fillStyle = colour;
      context.fill();
    };
    disc(9, "#00000059"), disc(8.2, "#ffffff"), disc(6.4, label ? "#16b054" : "#e23030");
    context.fillStyle = "#ffffff";
    context.fillRect(cx - 3.6 * unit, cy - 0.9 * unit, 7.2 * unit, 1.8 * unit);
    if (label) context.fillRect(cx - 0.9 * unit, cy - 3.6 * unit, 1.8 * unit, 7.2 * unit);
  }

  crosshair(x, y) {
    const { context, unit } = this;
    const [cx, cy] = [x * this.canvas.width, y * this.canvas.height];
    for (const [colour, thick] of [["#000000b3", 4], ["#ffffff", 1.6]]) {
      context.strokeStyle = colour, context.lineWidth = thick * unit;
      context.beginPath();
      for (const [dx, dy] of CROSS) {
        context.moveTo(cx + dx * 5 * unit, cy + dy * 5 * unit);
        context.lineTo(cx + dx * 15 * unit, cy + dy * 15 * unit);
      }
      context.stroke();
    }
  }
}
