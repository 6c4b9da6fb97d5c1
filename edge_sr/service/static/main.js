// The page: its parts, and how they know of each other.

import { fetchInfo, setToken } from "./api.js";
import { byId } from "./dom.js";
import { factsOf, troubleBox } from "./facts.js";
import { Jobs } from "./jobs.js";
import { listenToSettings, offerSettings, readSettings } from "./settings.js";
import { startTheme } from "./theme.js";
import { Viewer } from "./viewer.js";

const AGAIN_MS = 2000;
const DEPTHS = {
  8: "The image has 8 bits a pixel: levels 0 to 255.",
  16: "The image has 16 bits a pixel. The window is set over all 65,536 levels; what the screen then shows has 8 bits.",
};
const DICOM_WORDS = " Of a DICOM image you see what the model sees: the 1st to 99th percentile of the stored values over 16 bits. Its window and its stored values are in the DICOM file to download.";

const viewer = new Viewer();
const jobs = new Jobs({ change: settled, say, choose: show, again: (job) => jobs.again(job, readSettings()), gone });
let release = () => {};

startTheme();
listenToSettings();
listenForFiles();
byId("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value);
  byId("token").value = "";
  connect();
});
connect();

/** Asks what is served until it is ready; without the token it asks for the token. */
async function connect() {
  try {
    const info = await fetchInfo();
    const { model, runtime, status, limits } = info;
    byId("served").textContent = model ? `${model.name} ${model.version} · ${runtime.precision} · ${runtime.backend} · ${status}` : status;
    if (!model || status === "starting") return void setTimeout(connect, AGAIN_MS);
    const hadToken = !byId("token-section").hidden;
    byId("token-section").hidden = true;
    offerSettings(info);
    jobs.maxBytes = limits.max_bytes;
    jobs.hold(false);
    if (hadToken) byId("files").focus();
    byId("trouble").replaceChildren();
  } catch (trouble) {
    byId("served").textContent = trouble.wantsToken ? "asks for a token" : "no answer";
    if (trouble.wantsToken) askForToken(trouble);
    else {
      byId("trouble").replaceChildren(troubleBox("The service", trouble));
      setTimeout(connect, AGAIN_MS);
    }
  }
  return undefined;
}

function askForToken(trouble) {
  const isAgain = !byId("token-section").hidden;
  byId("token-section").hidden = false;
  if (isAgain) byId("trouble").replaceChildren(troubleBox("Access token", trouble));
  byId("token").focus();
}

function listenForFiles() {
  const drop = byId("drop");
  byId("files").addEventListener("change", (event) => {
    take(event.target.files);
    event.target.value = "";
  });
  document.addEventListener("paste", (event) => take(event.clipboardData.files));
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer.files);
    });
  }
}

function take(files) {
  if (!files.length) return;
  const settings = readSettings();
  if (settings) jobs.add(files, settings);
}

/** A job is done, has failed, was stopped, or wants a token. */
function settled(job) {
  if (job.state === "queued" && job.trouble?.wantsToken) {
    const { trouble } = job;
    job.trouble = null;
    return askForToken(trouble);
  }
  const isToBeSeen = job.isFirst || !jobs.shown;
  if ((job.state === "done" || job.state === "failed") && isToBeSeen) show(job);
  return undefined;
}

function show(job) {
  jobs.select(job);
  release();
  release = () => {};
  byId("trouble").replaceChildren();
  byId("facts-body").replaceChildren();
  if (job.state === "failed") {
    viewer.clear();
    say(`${job.name}: failed.`);
    return byId("trouble").append(troubleBox(job.name, job.trouble));
  }
  viewer.show(job.result);
  byId("depth").textContent = DEPTHS[job.result.depth] + (job.result.dicom ? DICOM_WORDS : "");
  const facts = factsOf(job, { goTo: (region) => viewer.goTo(region) });
  release = facts.release;
  byId("facts-body").append(...facts.nodes);
  return undefined;
}

function gone(job) {
  if (jobs.shown !== job) return;
  jobs.shown = null;
  release();
  byId("facts-body").replaceChildren();
  byId("trouble").replaceChildren();
  viewer.clear();
  say("No image is shown.");
}

function say(text) {
  byId("status").textContent = text;
}
