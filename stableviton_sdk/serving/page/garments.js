// The gallery of garments: those that are ticked are tried on.

import { cornerButton, find, icon, make } from "./dom.js";

export class Garments {
  /** @param {() => void} changed Called when the ticked ones change. */
  constructor(changed) {
    this.changed = changed;
    this.entries = [];
  }

  /** The images that are ticked. */
  get chosen() {
    return this.entries.filter((entry) => entry.tick.checked).map((entry) => entry.image);
  }

  /** Add an image, ticked. */
  add(image) {
    const tick = make("input", { type: "checkbox", checked: true, "aria-label": `Try on ${image.name}` });
    const remove = cornerButton(`Remove ${image.name}`);
    const shown = make("img", { src: image.url, alt: "" });
    const item = make("li", { className: "garment" }, make("label", {}, tick, shown, icon("check")), remove);
    const entry = { image, tick, item };
    tick.addEventListener("change", this.changed);
    remove.addEventListener("click", () => this.#remove(entry));
    this.entries.push(entry);
    find("garments-add").before(item);
    this.changed();
  }

  #remove(entry) {
    const place = this.entries.indexOf(entry);
    this.entries.splice(place, 1);
    entry.item.remove();
    (this.entries[place]?.tick ?? find("garment-pick")).focus();
    this.changed();
  }
}
