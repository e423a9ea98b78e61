// The server's answers, and its errors as one sentence each.

import { Problem } from "./messages.js";

const UNREACHABLE = "The server can't be reached: check that it is still running, and try again.";
const NO_TOKEN = "This server wants a token: open the whole address that it printed when it started.";

/** What the server offers: model, choices, defaults, limits. */
export const info = async () => (await request("/v1/info")).json();

/** One of the server's own sample images, as a file. */
export async function sample(path) {
  return new File([await (await request(path)).blob()], path.split("/").at(-1));
}

/** The mask that the server finds for a photo, with its warnings. */
export async function prepare(photo, category, signal) {
  const body = formOf({ person: photo, category });
  return (await request("/v1/prepare", { method: "POST", body, signal })).json();
}

/** Queue a try-on; fields without a value are left to the server. */
export async function tryOn(fields, signal) {
  return (await request("/v1/try-on", { method: "POST", body: formOf(fields), signal })).json();
}

/** Cancel a job, and have it forgotten. */
export const forget = (id) => request(job(id), { method: "DELETE" });

/** The result's file as the server writes it. */
export const result = async (id) => (await request(`${job(id)}/result?format=png`)).blob();

/** Where in the garment a pixel of the result came from. */
export const source = async (id, { x, y }) => (await request(`${job(id)}/source?${spot(x, y)}`)).json();

/** The garment, with the places that a pixel of the result attended to. */
export const attended = async (id, { x, y }) => (await request(`${job(id)}/attended?${spot(x, y)}`)).blob();

/** A job's events as they happen: `{ name, data }`. */
export async function* events(id, signal) {
  const response = await request(`${job(id)}/events`, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const blocks = (text + value).split(/\r?\n\r?\n/);
      text = blocks.pop();
      for (const block of blocks) {
        const event = readEvent(block);
        if (event.data) yield event; // others keep the connection awake
      }
    }
  } catch (error) {
    throw error.name === "TypeError" ? new Problem(UNREACHABLE, "unreachable") : error;
  } finally {
    reader.cancel().catch(() => {}); // a stream that broke is over already
  }
}

const job = (id) => `/v1/jobs/${encodeURIComponent(id)}`;
const spot = (x, y) => new URLSearchParams({ x: Math.floor(x), y: Math.floor(y) });

async function request(path, options = {}) {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    throw error.name === "AbortError" ? error : new Problem(UNREACHABLE, "unreachable");
  }
  if (response.ok) return response;
  const problem = (await response.json().catch(() => null))?.error;
  if (response.status === 401 && !token) throw new Problem(NO_TOKEN, "unauthorized");
  const sentence = problem?.message ?? `The server answered with status ${response.status}: try again.`;
  throw new Problem(sentence, problem?.code);
}

function formOf(fields) {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value) form.append(name, value);
  return form;
}

function readEvent(block) {
  const field = (name) => block.match(new RegExp(`^${name}: ?(.*)$`, "m"))?.[1];
  return { name: field("event"), data: JSON.parse(field("data") ?? "null") };
}
