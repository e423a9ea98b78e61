// Finding and making elements.

/** The element with an id. */
export const find = (id) => document.getElementById(id);

/** A new element: properties where it has them, attributes otherwise. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** One of the icons that index.html defines; decoration only. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

/** Show an image, without loading again what is there already. */
export const showImage = (image, url) => image.getAttribute("src") === url || image.setAttribute("src", url);

/** A small round button that takes something away. */
export const cornerButton = (label) =>
  make("button", { type: "button", className: "corner", "aria-label": label }, icon("close"));

/** Give the sheets in an element the proportions of an image. */
export const shape = (element, { width, height }) => element.style.setProperty("--ratio", width / height);

/** Where arrow keys lead from a point of an image, or null for other keys; Shift makes larger steps. */
export function movedByKey(event, point, step, { width, height }) {
  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const direction = directions[event.key];
  if (!direction || event.ctrlKey || event.metaKey || event.altKey) return null;
  const length = step * (event.shiftKey ? 4 : 1);
  const within = (value, side) => Math.min(Math.max(value, 0), side - 1);
  return { x: within(point.x + direction[0] * length, width), y: within(point.y + direction[1] * length, height) };
}

/** The pixel of an image under a pointer, for an element that shows the whole image. */
export function pixelUnder(event, element, { width, height }) {
  const box = element.getBoundingClientRect();
  return { x: ((event.clientX - box.left) / box.width) * width, y: ((event.clientY - box.top) / box.height) * height };
}
