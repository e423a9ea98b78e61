// Category, quality, detail and seed: the choices that the server offers, and what is chosen.

import { find, make } from "./dom.js";

const WORDS = { upper: "Top", lower: "Bottom", dress: "Dress" };
const MOST_SEED = 2 ** 32;

/** Offer what the server has; `categoryChanged` is called with another category. */
export function offerOptions(info, categoryChanged) {
  offer("category", info.categories, info.defaults.category);
  offer("quality", info.qualities, info.defaults.quality);
  find("category-choices").addEventListener("change", categoryChanged);
  const detail = find("detail");
  const showDetail = () => (find("detail-value").textContent = `${Math.round(detail.valueAsNumber * 100)} %`);
  detail.value = info.defaults.detail ?? 0;
  detail.addEventListener("input", showDetail);
  showDetail();
  find("seed-roll").addEventListener("click", () => setSeed(Math.floor(Math.random() * MOST_SEED)));
}

/** What kind of garment is tried on. */
export const category = () => find("options").elements.category.value;

/** Put a seed into its field. */
export const setSeed = (seed) => (find("seed").value = seed);

/** The fields of a try-on, as the server names them; no seed where its field is empty. */
export function chosenOptions() {
  const { elements } = find("options");
  const names = ["category", "quality", "detail", "seed", "garment_photo"];
  return Object.fromEntries(names.map((name) => [name, elements[name].value]));
}

function offer(name, values, chosen) {
  const choice = (value) => make(
    "label", {},
    make("input", { type: "radio", name, value, checked: value === chosen }),
    make("span", {}, WORDS[value] ?? value[0].toUpperCase() + value.slice(1)),
  );
  find(`${name}-choices`).replaceChildren(...values.map(choice));
}
