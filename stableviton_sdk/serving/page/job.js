// One try-on, from the upload to the result. Fires "change" whenever there is something new to show.

import * as api from "./api.js";

const ATTEMPTS = 5; // to go on reading events after the connection was lost

export class Job extends EventTarget {
  /** @param {{file: Blob}} person @param {{file: Blob}} garment Opened images. @param {object} options Form fields. */
  constructor(person, garment, options) {
    super();
    Object.assign(this, { person, garment, options, url: null, error: null, id: null, status: "sending" });
    Object.assign(this, { place: 0, step: 0, steps: 0, preview: null, seed: null, seconds: 0, warnings: [] });
    this.stopping = new AbortController();
  }

  get isOver() {
    return ["done", "failed", "cancelled"].includes(this.status);
  }

  /** The state in words. */
  get words() {
    if (this.status === "queued") return this.place > 1 ? `Number ${this.place} in the queue` : "Next in the queue";
    if (this.status === "running") return this.steps ? `Step ${this.step} of ${this.steps}` : "Starting";
    return { sending: "Sending", done: "Done", failed: this.error, cancelled: "Cancelled" }[this.status];
  }

  /** Send it, and follow it to its end. Never throws: what goes wrong is its `error`. */
  async run(mask) {
    try {
      const fields = { person: this.person.file, garment: this.garment.file, mask, ...this.options };
      this.#update(await api.tryOn(fields, this.stopping.signal));
      await this.#follow();
      if (this.status !== "done") return;
      this.url = URL.createObjectURL(await api.result(this.id));
      this.dispatchEvent(new Event("change"));
    } catch (error) {
      if (this.status === "cancelled") return;
      if (!error.sentence) console.error(error);
      this.#update({ status: "failed", error: { message: error.sentence ?? "The page went wrong: reload it." } });
    }
  }

  /** Stop it, on the server too. */
  async cancel() {
    this.#update({ status: "cancelled" });
    this.stopping.abort();
    await this.forget();
  }

  /** Have the server delete its uploads and its result. */
  async forget() {
    if (this.url) URL.revokeObjectURL(this.url);
    if (this.id) await api.forget(this.id).catch(() => {}); // it is deleted in time anyway
  }

  async #follow() {
    for (let attempt = 0; !this.isOver; attempt += 1) {
      if (attempt) await new Promise((resolve) => setTimeout(resolve, 1000));
      try {
        for await (const { name, data } of api.events(this.id, this.stopping.signal)) {
          attempt = 0;
          this.#update({ status: name === "progress" ? "running" : name, ...data });
        }
      } catch (error) {
        if (error.code !== "unreachable" || attempt >= ATTEMPTS) throw error;
      }
    }
  }

  #update({ error, ...news }) {
    if (this.status === "cancelled") {
      if (news.id && !this.id) api.forget(news.id).catch(() => {}); // it arrived while it was cancelled
      return;
    }
    for (const [name, value] of Object.entries(news)) if (name in this && value !== null) this[name] = value;
    if (error) this.error = error.message;
    this.dispatchEvent(new Event("change"));
  }
}
