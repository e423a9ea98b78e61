// The mask: what the server found, grown or shrunk, and the strokes that correct it.
// It is kept as a list of changes in the photo's own pixels, so that it can be drawn at any size, and undone.

import { make } from "./dom.js";
import { signedDistance } from "./distance.js";
import { Problem } from "./messages.js";

const WORKING_SIDE = 768; // pixels of the longer side that distances are computed at
const REACH = 0.06; // of the longer side: the most that a mask is grown or shrunk

export class Mask {
  /** @param {HTMLImageElement} found The server's mask, grey, in the photo's size: white = repainted. */
  constructor(found) {
    this.found = found;
    this.width = found.naturalWidth;
    this.height = found.naturalHeight;
    this.reach = Math.ceil(Math.max(this.width, this.height) * REACH);
    this.changes = [];
    this.undone = [];
  }

  /** How far the found mask is grown, in pixels of the photo; negative where it is shrunk. */
  get growth() {
    return this.#current().growth;
  }

  get canUndo() {
    return this.changes.length > 0;
  }

  get canRedo() {
    return this.undone.length > 0;
  }

  /** Grow the found mask by so many pixels; strokes stay as they are. Several in a row are one change. */
  grow(pixels) {
    if (this.changes.at(-1)?.growth !== undefined) this.changes.pop();
    this.#change({ growth: pixels });
  }

  /**
   * Add a stroke of the brush.
   *
   * @param {{adds: boolean, size: number, points: {x: number, y: number}[]}} stroke Diameter and points in pixels.
   */
  add(stroke) {
    this.#change({ stroke });
  }

  /** Go back to what the server found, as a change that can be undone. */
  reset() {
    this.#change({ reset: true });
  }

  undo() {
    if (this.canUndo) this.undone.push(this.changes.pop());
  }

  redo() {
    if (this.canRedo) this.changes.push(this.undone.pop());
  }

  /**
   * Draw the mask as opacity, for the overlay.
   *
   * @param {CanvasRenderingContext2D} context Of a canvas with the photo's proportions.
   * @param {number} growth In place of the mask's own, while its slider moves.
   */
  drawOpacity(context, growth = this.growth) {
    const { width, height } = context.canvas;
    context.globalCompositeOperation = "copy";
    context.drawImage(this.#grown(growth), 0, 0, width, height);
    for (const stroke of this.#current().strokes) drawStroke(context, stroke, width / this.width);
  }

  /** The mask as a PNG file of the photo's size: white = repainted, black = kept. */
  async toFile() {
    const canvas = make("canvas", { width: this.width, height: this.height });
    const context = canvas.getContext("2d");
    context.fillRect(0, 0, this.width, this.height);
    const base = this.growth ? this.#grown(this.growth) : this.found; // as found, it is exact
    context.drawImage(base, 0, 0, this.width, this.height);
    for (const { adds, ...stroke } of this.#current().strokes) tracePath(context, stroke, 1, adds ? "#fff" : "#000");
    const file = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (!file) throw new Problem("This browser can't draw a mask of the photo's size: use a smaller photo.");
    return file;
  }

  #change(change) {
    this.changes.push(change);
    this.undone.length = 0;
  }

  #current() {
    const since = this.changes.findLastIndex((change) => change.reset) + 1;
    const valid = this.changes.slice(since);
    return {
      growth: valid.findLast((change) => "growth" in change)?.growth ?? 0,
      strokes: valid.flatMap((change) => change.stroke ?? []),
    };
  }

  /** The found mask, grown: a canvas of the working size whose opacity it is. */
  #grown(growth) {
    this.field ??= measure(this.found, this.reach);
    const { context, scale, grey, signed } = this.field;
    const pixels = context.createImageData(context.canvas.width, context.canvas.height);
    pixels.data.fill(255);
    for (let place = 0; place < grey.length; place += 1) {
      // the edge is half a pixel soft: enlarged, its middle stays the edge; values beyond 0 and 255 are clamped
      pixels.data[4 * place + 3] = growth ? 255 * (growth * scale - signed[place] + 0.5) : grey[place];
    }
    context.putImageData(pixels, 0, 0);
    return context.canvas;
  }
}

/** A mask at the working size: its values, and each pixel's distance to its edge. */
function measure(found, reach) {
  const scale = Math.min(1, WORKING_SIDE / Math.max(found.naturalWidth, found.naturalHeight));
  const [width, height] = [found.naturalWidth, found.naturalHeight].map((side) => Math.ceil(side * scale));
  const context = make("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(found, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const grey = Uint8Array.from({ length: width * height }, (_, place) => data[4 * place]);
  const inside = grey.map((value) => (value >= 128 ? 1 : 0));
  return { context, scale, grey, signed: signedDistance(inside, width, height, Math.ceil(reach * scale) + 1) };
}

/** Draw one stroke onto a mask that is kept as opacity. */
export function drawStroke(context, stroke, scale) {
  context.globalCompositeOperation = stroke.adds ? "source-over" : "destination-out";
  tracePath(context, stroke, scale, "#fff");
}

function tracePath(context, { size, points }, scale, colour) {
  context.strokeStyle = colour;
  context.lineWidth = size * scale;
  context.lineCap = "round";
  context.lineJoin = "round";
  context.beginPath();
  context.moveTo(points[0].x * scale + 0.01, points[0].y * scale); // a path without any length is not drawn
  for (const { x, y } of points) context.lineTo(x * scale, y * scale);
  context.stroke();
}
