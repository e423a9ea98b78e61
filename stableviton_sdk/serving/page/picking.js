// Ways in for images: a file dialog, drag and drop, the clipboard.

import { find } from "./dom.js";
import { Problem, saying } from "./messages.js";

/**
 * Let an area take images.
 *
 * @param {HTMLElement} area Where files may be dropped.
 * @param {HTMLElement[]} buttons What opens the file dialog.
 * @param {HTMLInputElement} input The file input, hidden.
 * @param {(files: File[]) => void} take What happens with the files.
 */
export function takeFiles(area, buttons, input, take) {
  for (const button of buttons) button.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // the same file may be chosen again
    if (files.length) take(files);
  });
  const mark = (isOver) => area.classList.toggle("dropping", isOver);
  area.addEventListener("dragover", (event) => mark(bringsFiles(event)));
  area.addEventListener("dragleave", (event) => mark(area.contains(event.relatedTarget)));
  area.addEventListener("drop", (event) => {
    mark(false);
    event.stopPropagation();
    takeFrom(event, event.dataTransfer, take);
  });
}

/**
 * Take images that are pasted, or dropped beside the areas; which of the two places they go to is the page's choice.
 *
 * @param {(files: File[]) => void} take What happens with the files.
 */
export function takePasted(take) {
  document.addEventListener("dragover", (event) => bringsFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => takeFrom(event, event.dataTransfer, take));
  document.addEventListener("paste", (event) => takeFrom(event, event.clipboardData, take));
  find("paste").addEventListener("click", saying(async () => {
    const files = await readClipboard();
    if (!files.length) throw new Problem("The clipboard holds no image: copy one first.");
    take(files);
  }));
}

function takeFrom(event, source, take) {
  if (!source?.files.length) return;
  event.preventDefault();
  take([...source.files]);
}

const bringsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");

async function readClipboard() {
  const files = [];
  const items = await navigator.clipboard?.read().catch(() => null);
  if (!items) throw new Problem("This browser doesn't let the page read the clipboard: press Ctrl+V instead.");
  for (const item of items) {
    const type = item.types.find((name) => name.startsWith("image/"));
    if (type) files.push(new File([await item.getType(type)], "pasted image", { type }));
  }
  return files;
}
