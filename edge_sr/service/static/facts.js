// What is known of a result, in words and figures; and what went wrong, in words.

import { bytes } from "./api.js";
import { downloadLink, make } from "./dom.js";

const STAGES = {
  receive: "receive", read: "decode file", queue: "wait in queue", encode: "encoder", loop: "loop", decode: "decoder",
  host: "tiles on the host", write: "write files",
};
const SUMS = new Set(["device"]); // encode, loop, decode and host together

/** Everything about a job's result. `actions` has goTo(region). Returns nodes, and what to do when they go. */
export function factsOf(job, actions) {
  const { result, name } = job;
  const { facts } = result;
  const stem = name.replace(/\.[^.]*$/, "") || "image";
  const png = downloadLink(result.png, "image/png", `${stem}-x${facts.scale}.png`, "Download PNG");
  const dicom = result.dicom && downloadLink(result.dicom, "application/dicom", `${stem}-x${facts.scale}.dcm`, "Download DICOM");
  const nodes = [
    make("div", { className: "downloads" }, png.link, dicom && dicom.link),
    trust(facts),
    notices(facts.notices),
    table("Image", imageRows(result)),
    times(result.timing),
    table("How it was made", madeRows(facts, result.requestId)),
    regions(facts, actions),
    evidenceTable(facts),
  ].filter(Boolean);
  return { nodes, release: () => [png, dicom].forEach((link) => link && link.release()) };
}

/** A refusal or a loss, in words. */
export function troubleBox(name, trouble) {
  const wait = trouble.retryAfter ? `The service asks to wait ${trouble.retryAfter} s.` : "";
  return make("div", { className: "alert" },
    make("strong", {}, `${name}: ${trouble.title}`),
    make("p", {}, sentence(trouble.detail)),
    ...[trouble.hint && sentence(trouble.hint), wait].filter(Boolean).map((words) => make("p", {}, words)),
    trouble.requestId && make("p", { className: "note" }, `Request ${trouble.requestId}`));
}

const sentence = (text) => {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
};

function trust(facts) {
  const { consistency_db: db, consistency_alarm_db: alarm, is_alarming: isAlarming } = facts;
  const words = {
    true: ["alarm", "Alarm", `less than the ${alarm?.toFixed(1)} dB that true images reach: made small again, the result is not its input`],
    false: ["calm", "No alarm", `the alarm is below ${alarm?.toFixed(1)} dB, what true images reach`],
    null: ["unknown", "Not judged", "what true images reach was not measured at this scale"],
  }[isAlarming];
  return make("div", { className: `trust ${words[0]}` },
    make("h3", {}, "Consistency with the input"),
    make("p", { className: "figure" }, `${db.toFixed(1)} dB `, make("span", { className: "badge" }, words[1])),
    make("p", { className: "note" }, `${sentence(words[2])} It says nothing of detail that the reduction averages away.`));
}

function notices(texts) {
  if (!texts.length) return null;
  return make("div", { className: "alert mild" }, make("h3", {}, "Notices"), make("ul", {}, ...texts.map((text) => make("li", {}, sentence(text)))));
}

function imageRows(result) {
  const { width, height, depth, facts, layers, png, dicom } = result;
  const input = layers.input.levels[0];
  return {
    Input: `${input.width} × ${input.height}`,
    Result: `${width} × ${height}, ${depth}-bit ${input.channels === 3 ? "colour" : "gray"}`,
    Scale: `×${facts.scale}, ${facts.tiles} ${facts.tiles === 1 ? "tile" : "tiles"}`,
    Files: `PNG ${bytes(png.length)}${dicom ? `, DICOM ${bytes(dicom.length)}` : ""}`,
  };
}

function madeRows({ provenance }, requestId) {
  const { preset } = provenance;
  return {
    Model: provenance.bundle,
    Bundle: code(provenance.bundle_sha256),
    Backend: [provenance.backend, provenance.version, provenance.provider].filter(Boolean).join(", "),
    Precision: provenance.precision,
    Loop: preset ? `${preset.steps} steps, ${preset.sampler}` : "none, one pass",
    ...("class" in provenance && { "Told class": `${provenance.class}, guidance ${provenance.guidance}` }),
    ...(preset && { Samples: preset.samples, Seed: provenance.seed }),
    Request: code(requestId),
  };
}

const code = (text) => make("code", {}, text);

function table(title, rows) {
  const list = Object.entries(rows).flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value?.nodeType ? value : String(value))]);
  return make("section", {}, make("h3", {}, title), make("dl", {}, ...list));
}

/** Time by stage, with bars that share one scale. */
function times(timing) {
  const stages = Object.entries(timing).filter(([name]) => !SUMS.has(name));
  const order = Object.keys(STAGES);
  stages.sort(([a], [b]) => ((order.indexOf(a) + 99) % 99) - ((order.indexOf(b) + 99) % 99));
  const total = stages.reduce((sum, [, ms]) => sum + ms, 0);
  const most = Math.max(...stages.map(([, ms]) => ms), 1e-3);
  const rows = stages.map(([name, ms]) => {
    const bar = make("span", { className: "meter" });
    bar.style.setProperty("width", `${(100 * ms) / most}%`);
    return make("tr", {}, make("th", { scope: "row" }, STAGES[name] ?? name), make("td", {}, milliseconds(ms)), make("td", { className: "bars", "aria-hidden": "true" }, bar));
  });
  return make("section", {}, make("h3", {}, "Time by stage"),
    make("table", { className: "times" },
      make("tbody", {}, ...rows),
      make("tfoot", {}, make("tr", {}, make("th", { scope: "row" }, "together"), make("td", {}, milliseconds(total)), make("td", {})))));
}

const milliseconds = (ms) => (ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : `${ms.toFixed(ms < 10 ? 1 : 0)} ms`);

function regions({ uncertainty }, actions) {
  if (!uncertainty?.regions.length) return null;
  const items = uncertainty.regions.map((region) => {
    const go = make("button", { type: "button", className: "quiet" }, `x ${region.x}, y ${region.y}`);
    go.addEventListener("click", () => actions.goTo(region));
    return make("li", {}, go, ` spread ${region.mean_std.toFixed(1)}`);
  });
  return make("section", {}, make("h3", {}, "Where samples differ most"),
    make("p", { className: "note" }, "Mean standard deviation in gray levels; a button shows the place."),
    make("ol", { className: "regions" }, ...items));
}

function evidenceTable({ uncertainty, change, bit_depth: depth }) {
  const unit = `of ${2 ** depth - 1}`;
  const rows = {};
  if (change) {
    rows["Change, mean"] = `${change.mean_abs.toFixed(2)} ${unit}`;
    rows["Most added"] = `${change.most_added.toFixed(1)} ${unit}`;
    rows["Most taken"] = `${change.most_removed.toFixed(1)} ${unit}`;
  }
  if (uncertainty) rows["Spread, mean"] = `${uncertainty.mean_std.toFixed(2)} ${unit}`;
  return Object.keys(rows).length ? table("Change and spread, gray levels", rows) : null;
}
