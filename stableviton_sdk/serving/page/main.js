// The page: a photo, its mask, garments, and the try-ons of this visit.

import * as api from "./api.js";
import { MaskEditor } from "./brush.js";
import { takeFromCamera } from "./camera.js";
import { find, shape } from "./dom.js";
import { Garments } from "./garments.js";
import { History } from "./history.js";
import { decode, openImage } from "./images.js";
import { Job } from "./job.js";
import { Mask } from "./mask.js";
import { Problem, hide, say, sayError, saying } from "./messages.js";
import { category, chosenOptions, offerOptions } from "./options.js";
import { takeFiles, takePasted } from "./picking.js";
import { ResultView } from "./result.js";

let info = { limits: {} };
let person = null; // the opened photo
let masks = new Map(); // its masks by category, so that corrections survive a change of mind
let finding = null; // ends the search for a mask that is no longer wanted

const editor = new MaskEditor();
const garments = new Garments(nameButton);
const result = new ResultView();
const history = new History(openJob, (job) => {
  job.forget();
  if (result.job !== job) return;
  find("tab-result").disabled = true;
  showView("photo");
});

async function start() {
  info = await api.info();
  find("model").textContent = [info.model, info.licence].filter(Boolean).join(" · ");
  find("notice").textContent = info.notice ?? "";
  find("notice").hidden = !info.notice;
  offerOptions(info, showMask);
  find("sample").hidden = !info.samples;
}

/** Take what the server has for a first try. */
async function takeSamples() {
  await takeGarments(await Promise.all(info.samples.garments.map(api.sample)));
  await takePerson([await api.sample(info.samples.persons[0])]);
}

async function takePerson([file]) {
  person = await openImage(file, info.limits);
  hide();
  masks = new Map();
  find("person-photo").src = person.url;
  find("person-photo").alt = `Photo: ${person.name}`;
  shape(find("view-photo"), person);
  for (const id of ["person-photo", "person-change"]) find(id).hidden = false;
  find("person-empty").hidden = true;
  find("paste-garment").checked = true;
  showView("photo");
  await showMask();
}

/** Show the photo's mask for the chosen category; the server is asked for it once. */
async function showMask() {
  if (!person) return;
  finding?.abort();
  finding = new AbortController();
  const { signal } = finding;
  const key = category();
  editor.show(masks.get(key) ?? null);
  if (masks.has(key)) return;
  find("person").setAttribute("aria-busy", "true");
  try {
    const { mask, warnings } = await api.prepare(person.file, key, signal);
    const found = await decode(mask);
    if (signal.aborted) return;
    masks.set(key, new Mask(found));
    editor.show(masks.get(key));
    say(["The mask is ready: what is striped will be repainted.", ...(warnings ?? [])].join(" "));
  } catch (error) {
    if (!signal.aborted) sayError(error);
  } finally {
    if (!signal.aborted) find("person").setAttribute("aria-busy", "false");
  }
}

async function takeGarments(files) {
  const most = info.limits.garments ?? Infinity;
  for (const file of files) {
    if (garments.entries.length >= most) throw new Problem(`The gallery holds ${most} garments: remove one first.`);
    garments.add(await openImage(file, info.limits));
    hide();
  }
}

async function tryOn() {
  const chosen = garments.chosen;
  if (!person) throw new Problem("Choose a photo of a person first.");
  if (!chosen.length) throw new Problem("Choose a garment first.");
  hide();
  const options = chosenOptions();
  const mask = await masks.get(options.category)?.toFile();
  const jobs = chosen.map((garment) => new Job(person, garment, options));
  for (const job of jobs.toReversed()) history.add(job);
  openJob(jobs[0]);
  for (const job of jobs) {
    job.addEventListener("change", () => announce(job));
    job.run(mask);
  }
}

function announce(job) {
  if (job.status === "failed") sayError(new Problem(job.error));
  else if (job.url) say(["The result is ready.", ...job.warnings].join(" "));
}

function openJob(job) {
  result.open(job);
  history.mark(job);
  find("tab-result").disabled = false;
  showView("result");
  if (find("stage").getBoundingClientRect().top < 0) find("stage").scrollIntoView(); // on a phone
}

function showView(name) {
  for (const view of ["photo", "result"]) {
    find(`view-${view}`).hidden = view !== name;
    find(`tab-${view}`).setAttribute("aria-pressed", String(view === name));
  }
}

function nameButton() {
  const count = garments.chosen.length;
  find("try-on").textContent = count > 1 ? `Try on ${count} garments` : "Try on";
}

takeFiles(find("view-photo"), [find("person-pick"), find("person-change")], find("person-file"), saying(takePerson));
takeFiles(find("garments"), [find("garment-pick")], find("garment-file"), saying(takeGarments));
takePasted(saying((files) => (find("paste-person").checked ? takePerson(files) : takeGarments(files))));
takeFromCamera(find("person-camera"), saying((file) => takePerson([file])));
find("sample").addEventListener("click", saying(takeSamples));

find("options").addEventListener("submit", (event) => event.preventDefault());
find("options").addEventListener("submit", saying(tryOn));
for (const name of ["photo", "result"]) find(`tab-${name}`).addEventListener("click", () => showView(name));
document.addEventListener("keydown", (event) => {
  const isUndo = event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey);
  if (!isUndo || event.target.matches("input[type=number]")) return;
  event.preventDefault();
  editor.change(event.shiftKey ? "redo" : "undo");
});

saying(start)();
