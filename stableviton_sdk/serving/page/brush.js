// The mask over the photo, corrected with a brush: pointer, touch or keyboard.

import { find, make, movedByKey, pixelUnder } from "./dom.js";
import { drawStroke } from "./mask.js";
import { say } from "./messages.js";

const MOST_PIXELS = 2.5e6; // of the overlay, so that drawing stays fluid whatever the photo's size

export class MaskEditor {
  constructor() {
    this.canvas = find("mask-canvas");
    this.context = this.canvas.getContext("2d");
    this.layer = make("canvas").getContext("2d"); // the mask as opacity, at the overlay's size
    this.mask = null;
    this.cursor = null; // in pixels of the photo
    this.stroke = null; // while it is drawn
    this.frame = 0;
    new ResizeObserver(() => this.#resize()).observe(this.canvas);
    this.#listenToPointer();
    this.#listenToKeys();
    this.#listenToTools();
  }

  /** Show a mask, or none. */
  show(mask) {
    this.#finish();
    this.mask = mask;
    this.canvas.hidden = !mask;
    find("mask-tools").hidden = !mask;
    if (!mask) return;
    Object.assign(find("mask-grow"), { min: -mask.reach, max: mask.reach, step: Math.ceil(mask.reach / 40) });
    this.cursor = { x: mask.width / 2, y: mask.height / 2 };
    this.#resize();
    this.#update();
  }

  /** Change the mask: "undo", "redo", "reset", or "grow" with so many pixels. */
  change(name, ...values) {
    this.#finish();
    this.mask?.[name](...values);
    this.#update();
  }

  /** Diameter of the brush in pixels of the photo; its slider is in thousandths of the longer side. */
  get #size() {
    return (Math.max(this.mask.width, this.mask.height) * find("brush-size").valueAsNumber) / 1000;
  }

  get #scale() {
    return this.canvas.width / this.mask.width;
  }

  #resize() {
    const { clientWidth, clientHeight } = this.canvas;
    if (!this.mask || !clientWidth) return;
    const scale = Math.min(devicePixelRatio, Math.sqrt(MOST_PIXELS / (clientWidth * clientHeight)));
    const [width, height] = [clientWidth, clientHeight].map((side) => Math.max(1, Math.round(side * scale)));
    for (const canvas of [this.canvas, this.layer.canvas]) Object.assign(canvas, { width, height });
    this.#redraw();
  }

  /** After a change: buttons, slider and overlay as the mask is now. */
  #update() {
    if (!this.mask) return;
    for (const name of ["undo", "reset"]) find(`mask-${name}`).disabled = !this.mask.canUndo;
    find("mask-redo").disabled = !this.mask.canRedo;
    find("mask-grow").value = this.mask.growth;
    this.#redraw();
  }

  #redraw(growth = this.mask?.growth) {
    if (!this.mask || !this.canvas.clientWidth) return;
    find("mask-grow-value").textContent = growth ? `${growth > 0 ? "+" : "−"}${Math.abs(growth)} px` : "as found";
    this.mask.drawOpacity(this.layer, growth);
    this.#paintSoon();
  }

  #paintSoon() {
    this.frame ||= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.frame = 0;
    if (!this.mask) return;
    const { context, canvas } = this;
    context.globalCompositeOperation = "copy";
    context.drawImage(this.layer.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = hatching(context, getComputedStyle(canvas));
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.globalCompositeOperation = "source-over";
    if (!canvas.matches(":hover, :focus-visible")) return;
    const { x, y } = this.cursor;
    context.setLineDash(find("brush-add").checked ? [] : [6, 4]);
    for (const [strokeStyle, lineWidth] of [["#000", 3.5], ["#fff", 1.5]]) {
      Object.assign(context, { strokeStyle, lineWidth });
      context.beginPath();
      context.arc(x * this.#scale, y * this.#scale, Math.max(2, (this.#size / 2) * this.#scale), 0, 2 * Math.PI);
      context.stroke();
    }
  }

  #listenToPointer() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button > 0 || !event.isPrimary) return;
      canvas.setPointerCapture(event.pointerId);
      this.#moveTo(pixelUnder(event, canvas, this.mask));
      this.#begin();
    });
    canvas.addEventListener("pointermove", (event) => {
      const between = event.getCoalescedEvents?.() ?? [];
      for (const step of [...between, event]) this.#moveTo(pixelUnder(step, canvas, this.mask));
    });
    canvas.addEventListener("pointerup", () => this.#finish());
    canvas.addEventListener("pointercancel", () => this.#abandon()); // two fingers: the page is zoomed instead
    canvas.addEventListener("blur", () => this.#finish());
    for (const name of ["pointerleave", "focus", "blur"]) canvas.addEventListener(name, () => this.#paintSoon());
  }

  #listenToKeys() {
    this.canvas.addEventListener("keydown", (event) => {
      const moved = movedByKey(event, this.cursor, Math.max(1, this.#size / 4), this.mask);
      if (moved) this.#moveTo(moved);
      else if (event.key === "Enter" || event.key === " ") this.#toggle();
      else if (event.key === "Escape" && this.stroke) this.#abandon();
      else return;
      event.preventDefault();
    });
  }

  #listenToTools() {
    for (const name of ["undo", "redo", "reset"]) {
      find(`mask-${name}`).addEventListener("click", () => this.change(name));
    }
    find("brush-size").addEventListener("input", () => this.#paintSoon());
    const grow = find("mask-grow");
    grow.addEventListener("input", () => this.#redraw(grow.valueAsNumber));
    grow.addEventListener("change", () => this.change("grow", grow.valueAsNumber));
  }

  #toggle() {
    if (this.stroke) this.#finish();
    else this.#begin();
    say(this.stroke ? "The brush is down: arrow keys draw, Space lifts it." : "The brush is lifted.");
  }

  #moveTo(point) {
    const last = this.cursor;
    this.cursor = point;
    if (this.stroke) {
      this.stroke.points.push(point);
      drawStroke(this.layer, { ...this.stroke, points: [last, point] }, this.#scale);
    }
    this.#paintSoon();
  }

  #begin() {
    this.stroke = { adds: find("brush-add").checked, size: this.#size, points: [this.cursor] };
    this.#moveTo(this.cursor);
  }

  #finish() {
    if (!this.stroke) return;
    this.mask.add(this.stroke);
    this.stroke = null;
    this.#update();
  }

  #abandon() {
    this.stroke = null;
    this.#redraw();
  }
}

/** Tailor's chalk: a tint with slanted stripes, which shows on cloth of any colour. */
function hatching(context, styles) {
  const side = 12;
  const pencil = make("canvas", { width: side, height: side }).getContext("2d");
  pencil.fillStyle = styles.getPropertyValue("--mask");
  pencil.fillRect(0, 0, side, side);
  pencil.strokeStyle = styles.getPropertyValue("--chalk");
  pencil.lineWidth = 2;
  for (const offset of [-side, 0, side]) {
    pencil.moveTo(offset, side);
    pencil.lineTo(offset + side, 0);
  }
  pencil.stroke();
  return context.createPattern(pencil.canvas, "repeat");
}
