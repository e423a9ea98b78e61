// One try-on in the large view: its progress, then before and after, and where each pixel came from.

import * as api from "./api.js";
import { find, movedByKey, pixelUnder, shape, showImage } from "./dom.js";
import { setSeed } from "./options.js";
import { say, saying } from "./messages.js";

const UNASKED = "Choose a place of the result to see where in the garment it came from.";

export class ResultView {
  constructor() {
    this.job = null;
    this.show = this.show.bind(this);
    find("compare-slider").addEventListener("input", () => this.#slide());
    find("job-cancel").addEventListener("click", () => this.job.cancel());
    find("seed-keep").addEventListener("click", () => {
      setSeed(this.job.seed);
      say(`The seed is ${this.job.seed} from now on.`);
    });
    find("attended").addEventListener("change", saying(() => this.#showGarment()));
    this.ask = saying((point) => this.#ask(point));
    const spot = find("compare-images");
    spot.addEventListener("click", (event) => this.ask(pixelUnder(event, spot, this.job.person)));
    spot.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Show a try-on, from now on as it changes. */
  open(job) {
    this.job?.removeEventListener("change", this.show);
    this.job = job;
    shape(find("view-result"), job.person);
    shape(find("swatch"), job.garment);
    this.point = { x: job.person.width / 2, y: job.person.height / 2 };
    this.#showSource(null);
    find("result-mark").hidden = true;
    find("compare-slider").value = 50;
    this.#slide();
    job.addEventListener("change", this.show);
    this.show();
  }

  show() {
    const { job } = this;
    const isShown = Boolean(job.url);
    find("compare").hidden = !isShown;
    find("result-facts").hidden = !isShown;
    for (const id of ["waiting", "progress"]) find(id).hidden = isShown;
    find("source-garment").src = job.garment.url;
    if (isShown) this.#showResult(job);
    else this.#showWaiting(job);
  }

  #showWaiting(job) {
    showImage(find("waiting-photo"), job.preview ?? job.person.url);
    find("waiting").dataset.status = job.status;
    find("waiting-words").textContent = job.words;
    find("waiting-bar").hidden = job.isOver;
    if (job.status === "running" && job.steps) find("waiting-bar").value = job.step / job.steps;
    else find("waiting-bar").removeAttribute("value");
    find("job-cancel").hidden = job.isOver;
  }

  #showResult({ person, url, seed, seconds, options }) {
    find("before").src = person.url;
    find("after").src = url;
    find("download").href = url;
    find("download").download = `try-on-${seed}.png`;
    find("fact-seed").textContent = seed;
    find("fact-options").textContent = `${options.quality}, detail ${Math.round(options.detail * 100)}\u00a0%`;
    find("fact-time").textContent = `${Number(seconds).toFixed(1)}\u00a0s`;
  }

  #slide() {
    const place = find("compare-slider").valueAsNumber;
    find("before").style.clipPath = `inset(0 ${100 - place}% 0 0)`;
    find("compare-line").style.left = `${place}%`;
    find("compare-slider").setAttribute("aria-valuetext", `${Math.round(place)} % before`);
  }

  #onKey(event) {
    const { width, height } = this.job.person;
    const moved = movedByKey(event, this.point, Math.max(1, Math.max(width, height) / 100), this.job.person);
    if (moved) {
      this.point = moved;
      place(find("result-mark"), moved, { width, height });
    } else if (event.key === "Enter" || event.key === " ") this.ask(this.point);
    else return;
    event.preventDefault();
  }

  async #ask(point) {
    const { job } = this;
    this.point = point;
    place(find("result-mark"), point, job.person);
    const source = await api.source(job.id, point);
    if (job !== this.job || point !== this.point) return; // another one was asked for meanwhile
    this.#showSource(source);
    await this.#showGarment();
  }

  #showSource(source) {
    this.source = source?.painted ? source : null;
    find("source-mark").hidden = !this.source;
    find("attended").disabled = !this.source;
    if (this.source) place(find("source-mark"), source, this.job.garment);
    find("source-words").textContent = this.source
      ? `This pixel came from here, with a certainty of ${Math.round(source.confidence * 100)} %.`
      : source ? "This pixel is the photo's own: it wasn't repainted." : UNASKED;
  }

  /** The garment as it is, or with the attended places over it. */
  async #showGarment() {
    const { job, point } = this;
    const isWanted = find("attended").checked && this.source;
    const file = isWanted ? await api.attended(job.id, point) : null;
    if (job !== this.job || point !== this.point) return;
    if (this.overlay) URL.revokeObjectURL(this.overlay);
    this.overlay = file && URL.createObjectURL(file);
    find("source-garment").src = this.overlay ?? job.garment.url;
    find("source-mark").hidden = !this.source || Boolean(this.overlay); // which would lie over the brightest place
  }
}

function place(mark, { x, y }, { width, height }) {
  mark.style.left = `${(100 * (x + 0.5)) / width}%`;
  mark.style.top = `${(100 * (y + 0.5)) / height}%`;
  mark.hidden = false;
}
