// One sentence at a time, in a live region: for eyes and for screen readers.

import { find } from "./dom.js";

/** Something that a person can do something about: `sentence` says what was wrong, and what to do. */
export class Problem extends Error {
  constructor(sentence, code = null) {
    super(sentence);
    Object.assign(this, { sentence, code });
  }
}

const VISIBLE_FOR = 6000; // milliseconds; errors stay until they are closed or something else is said

let timer = 0;

/** Say what went well, or what goes on. */
export function say(sentence) {
  show(sentence, false);
  timer = setTimeout(hide, VISIBLE_FOR);
}

/** Say what went wrong; an error that isn't a `Problem` is the page's own fault. */
export function sayError(error) {
  if (!error.sentence) console.error(error);
  show(error.sentence ?? "Something on this page went wrong: reload it, and try again.", true);
}

/** A function that says what goes wrong in it. */
export const saying = (action) => async (...values) => {
  try {
    await action(...values);
  } catch (error) {
    sayError(error);
  }
};

/** Take the message away. */
export function hide() {
  clearTimeout(timer);
  find("message").hidden = true;
}

function show(text, isError) {
  clearTimeout(timer);
  const [quiet, spoken] = isError ? ["status", "alert"] : ["alert", "status"];
  find(quiet).textContent = "";
  find(spoken).textContent = text[0].toUpperCase() + text.slice(1);
  find("message").classList.toggle("error", isError);
  find("message").hidden = false;
}

find("message-close").addEventListener("click", hide);
