// What this page asks of its service. Errors arrive as `Trouble`, in words.

import { decodePng, fromBase64 } from "./png.js";
import { autoWindow, fullWindow, pyramid } from "./plane.js";

const EVERYTHING = "input,bicubic,uncertainty,change,dicom";
const LITTLE = "input,dicom";
const FIRST_LOOK_MS = 250;
const LOOK_MS = 1000;

let token = ""; // in the memory of this tab and nowhere else

export const setToken = (given) => {
  token = given;
};

/** A request that was refused or lost. */
export class Trouble extends Error {
  constructor({ status = 0, title, detail, hint = "", retryAfter = 0, requestId = "" }) {
    super(detail);
    Object.assign(this, { status, title, detail, hint, retryAfter, requestId });
  }

  get wantsToken() {
    return this.status === 401;
  }

  /** Whether the same request may do later. */
  get isPassing() {
    return this.status === 429 || this.status === 503;
  }
}

/** What is served, how, and within which limits. */
export async function fetchInfo() {
  return (await ask("/v1/info")).json();
}

/**
 * Enlarges one file.
 * @param {File} file
 * @param {object} settings seed, steps, samples, scale, where they are set, and compare.
 * @param {{signal: AbortSignal, onStage: function, maxBytes: number}} options onStage is told {stage, place, seconds}.
 */
export async function enlarge(file, settings, { signal, onStage, maxBytes }) {
  if (maxBytes && file.size > maxBytes) {
    throw new Trouble({
      title: "Too large", detail: `The file has ${bytes(file.size)}; the service reads at most ${bytes(maxBytes)}.`,
      hint: "Choose a smaller image.",
    });
  }
  const { compare, ...query } = settings;
  const search = new URLSearchParams({ ...query, include: compare ? EVERYTHING : LITTLE });
  const body = new FormData();
  body.append("file", new Blob([file]), "image"); // neither the file's name nor the type that this computer gives it
  const id = newId();
  const watch = new AbortController();
  follow(id, onStage, watch.signal);
  try {
    const response = await ask(`/v1/upscale?${search}`, { method: "POST", body, signal, headers: { "X-Request-Id": id } });
    const timing = parseTiming(response.headers.get("Server-Timing") ?? "");
    const answer = await response.json();
    if (query.seed) answer.provenance.seed = query.seed; // as it was written: a number here holds 53 bits of its 64
    return await unpack(answer, timing, id);
  } finally {
    watch.abort();
  }
}

/** Tells where a request is, until it is told to stop. */
async function follow(id, onStage, signal) {
  for (let wait = FIRST_LOOK_MS; ; wait = Math.min(LOOK_MS, wait * 1.5)) {
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (signal.aborted) return;
    try {
      const response = await fetch(`/v1/progress/${id}`, { headers: authorization(), signal });
      if (response.ok) onStage(await response.json());
    } catch {
      if (signal.aborted) return; // a look that failed is followed by another one
    }
  }
}

const authorization = () => (token ? { Authorization: `Bearer ${token}` } : {});

async function ask(path, { headers = {}, ...options } = {}) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: { Accept: "application/json", ...authorization(), ...headers } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble({
      title: "No answer", detail: "The service does not answer, or the connection broke.",
      hint: "Is it running? Then try again.",
    });
  }
  if (!response.ok) throw await troubleOf(response);
  return response;
}

async function troubleOf(response) {
  const problem = await response.json().catch(() => ({}));
  return new Trouble({
    status: response.status,
    title: problem.title ?? response.statusText,
    detail: problem.detail ?? `The service answered with status ${response.status}.`,
    hint: problem.hint,
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
    requestId: response.headers.get("X-Request-Id") ?? "",
  });
}

/** The answer with its pictures decoded: what the viewer and the facts are made from. */
async function unpack(document_, timing, requestId) {
  const { image, images, ...facts } = document_;
  const ours = await layer(image);
  const layers = { input: await layer(images.input, facts.scale), ours };
  if (images.bicubic) layers.bicubic = await layer(images.bicubic);
  const maps = {};
  for (const [name, words] of Object.entries(mapWords(facts))) {
    if (images[name]) maps[name] = { ...images[name], ...words, base64: "", levels: (await layer(images[name])).levels };
  }
  const isStretched = facts.bit_depth === 8 || Boolean(images.dicom);
  return {
    width: facts.width, height: facts.height, depth: facts.bit_depth, layers, maps, facts, timing, requestId,
    startWindow: isStretched ? fullWindow(facts.bit_depth) : autoWindow(layers.input.levels[0]),
    png: fromBase64(image.base64),
    dicom: images.dicom ? fromBase64(images.dicom.base64) : null,
  };
}

const layer = async ({ base64 }, unit = 1) => ({ levels: pyramid(await decodePng(fromBase64(base64))), unit });

const mapWords = ({ uncertainty }) => ({
  uncertainty: {
    title: `Standard deviation over ${uncertainty?.samples ?? 0} samples`, short: "spread",
    words: "It says where to look; it is no error bar.",
  },
  change: {
    title: "Change against bicubic", short: "change",
    words: "Orange: light was added. Purple: light was taken away.",
  },
});

/** Server-Timing as {name: milliseconds}, in its order. */
export function parseTiming(header) {
  return Object.fromEntries([...header.matchAll(/([\w-]+);dur=([\d.]+)/g)].map(([, name, ms]) => [name, Number(ms)]));
}

/** A size in words. */
export const bytes = (count) => (count < 1024 * 1024 ? `${Math.ceil(count / 1024)} KiB` : `${(count / 1024 / 1024).toFixed(1)} MiB`);

/** A random id; crypto.randomUUID is not there on a page that came over plain HTTP from another machine. */
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");
