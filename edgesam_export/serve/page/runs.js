// Masks as the server sends them: COCO's compressed runs. Pixels are numbered column by column.

const AREA = 4e6; // pixels of a layer, at most; larger masks are sampled

// The lengths of the runs outside and inside by turns. A letter holds five bits, the lowest first; its sixth bit says
// that more follow, and the last one's fifth is the sign. From the fourth on, a number is the difference from the one
// before last.
export function lengthsOf(text) {
  const lengths = [];
  for (let at = 0; at < text.length; ) {
    let value = 0, weight = 1, digit;
    do {
      digit = text.charCodeAt(at++) - 48;
      value += (digit & 31) * weight;
      weight *= 32;
    } while (digit & 32);
    if (digit & 16) value -= weight;
    lengths.push(lengths.length > 2 ? value + lengths.at(-2) : value);
  }
  return lengths;
}

// Calls visit(column, first row, last row + 1) for each piece of the mask in a column.
function eachPiece(lengths, height, visit) {
  let position = 0;
  lengths.forEach((length, number) => {
    const end = position + length;
    if (number % 2) {
      for (let start = position; start < end; ) {
        const column = Math.floor(start / height);
        const stop = Math.min(end, (column + 1) * height);
        visit(column, start - column * height, stop - column * height);
        start = stop;
      }
    }
    position = end;
  });
}

// One mask ready to be drawn: its bounding box as an opaque canvas. Sizes are in pixels of the mask.
export class Layer {
  constructor({ size: [height, width], counts }) {
    Object.assign(this, { height, width });
    const lengths = lengthsOf(counts);
    const step = Math.max(1, Math.ceil(Math.sqrt((height * width) / AREA)));
    let [left, top, right, bottom] = [Infinity, Infinity, 0, 0];
    eachPiece(lengths, height, (column, start, stop) => {
      left = Math.min(left, column), right = Math.max(right, column + 1);
      top = Math.min(top, start), bottom = Math.max(bottom, stop);
    });
    this.empty = right === 0;
    if (this.empty) [left, top, right, bottom] = [0, 0, 1, 1];
    left -= left % step, top -= top % step;
    this.step = step, this.left = left, this.top = top;
    this.columns = Math.ceil((right - left) / step), this.rows = Math.ceil((bottom - top) / step);
    this.inside = new Uint8Array(this.columns * this.rows);
    eachPiece(lengths, height, (column, start, stop) => {
      if ((column - left) % step) return;
      const x = (column - left) / step, last = Math.ceil((stop - top) / step);
      for (let y = Math.ceil((start - top) / step); y < last; y++) this.inside[y * this.columns + x] = 1;
    });
  }

  // Where it lies in the image, as shares of its sides: x, y, width, height.
  get extent() {
    const { left, top, columns, rows, step, width, height } = this;
    return [left / width, top / height, (columns * step) / width, (rows * step) / height];
  }

  // Made when it is first drawn.
  get canvas() {
    if (!this.painted) {
      this.painted = new OffscreenCanvas(this.columns, this.rows);
      const image = new ImageData(this.columns, this.rows);
      const values = new Uint32Array(image.data.buffer);
      for (let at = 0; at < values.length; at++) values[at] = this.inside[at] ? 0xffffffff : 0;
      this.painted.getContext("2d").putImageData(image, 0, 0);
    }
    return this.painted;
  }

  // Whether a point belongs to the mask; x and y as shares of the image's sides.
  has(x, y) {
    const column = Math.floor((x * this.width - this.left) / this.step);
    const row = Math.floor((y * this.height - this.top) / this.step);
    const known = column >= 0 && row >= 0 && column < this.columns && row < this.rows;
    return known && this.inside[row * this.columns + column] === 1;
  }
}
