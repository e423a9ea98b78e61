// The try-ons of this visit, newest first. They live in this page's memory and are gone with it.

import { cornerButton, find, make, showImage } from "./dom.js";

export class History {
  /** @param {(job: Job) => void} opened Called when one is to be shown. @param {(job: Job) => void} removed */
  constructor(opened, removed) {
    Object.assign(this, { opened, removed, cards: new Map() });
  }

  /** Add a try-on. */
  add(job) {
    const image = make("img", { src: job.person.url, alt: "" });
    const garment = make("img", { src: job.garment.url, alt: "", className: "worn" });
    const words = make("span", { className: "words" });
    const bar = make("progress", { max: 1, value: 0, "aria-label": "Progress" });
    const open = make("button", { type: "button", className: "open" }, image, garment, words);
    const close = cornerButton("");
    const card = make("li", { className: "card" }, open, bar, close);
    open.addEventListener("click", () => this.opened(job));
    close.addEventListener("click", () => (job.isOver ? this.#remove(job) : job.cancel()));
    const show = () => {
      words.textContent = job.status === "failed" ? "Failed" : job.words;
      open.setAttribute("aria-label", `${job.garment.name}: ${job.words}`);
      close.setAttribute("aria-label", `${job.isOver ? "Remove" : "Cancel"} ${job.garment.name}`);
      card.dataset.status = job.status;
      bar.hidden = job.isOver;
      bar.value = job.steps ? job.step / job.steps : 0;
      showImage(image, job.url ?? job.preview ?? job.person.url);
    };
    job.addEventListener("change", show);
    show();
    this.cards.set(job, { card, open });
    find("history").hidden = false;
    find("history-list").prepend(card);
  }

  /** Mark the one that is shown. */
  mark(job) {
    for (const [entry, { open }] of this.cards) open.setAttribute("aria-current", String(entry === job));
  }

  #remove(job) {
    this.cards.get(job).card.remove();
    this.cards.delete(job);
    find("history").hidden = !this.cards.size;
    this.removed(job);
  }
}
