// The settings form: what is asked for with the next image, checked before anything is sent.

import { byId, make } from "./dom.js";

const SEED_MOST = 2n ** 64n - 1n;

/** Fills in what the service runs by default, and its limits; a model without a loop has no defaults of one. */
export function offerSettings({ model, limits, runtime }) {
  const { defaults, scale, classes } = model;
  offerClasses(classes);
  for (const name of ["seed", "steps", "samples"]) byId(name).disabled = !defaults;
  Object.assign(byId("steps"), { value: defaults?.steps ?? "", max: limits.max_steps });
  Object.assign(byId("samples"), { value: defaults?.samples ?? "", max: limits.max_samples });
  if (!defaults) byId("seed").value = "";
  byId("scale").value = scale;
  byId("precision").textContent = runtime.precision;
  summarise();
}

/** What a class-guided model can be told; its null class is the choice of telling nothing. */
function offerClasses(classes) {
  for (const part of document.querySelectorAll(".guided")) part.hidden = !classes;
  const names = (classes?.names ?? []).filter((name) => name !== classes.null);
  const nothing = make("option", { value: classes?.null ?? "" }, "nothing");
  byId("class").replaceChildren(nothing, ...names.map((name) => make("option", { value: name }, name)));
  Object.assign(byId("guidance"), { value: "", placeholder: classes?.guidance ?? "", max: classes?.most_guidance ?? "" });
}

export function listenToSettings() {
  byId("settings-form").addEventListener("input", summarise);
  byId("settings-form").addEventListener("submit", (event) => event.preventDefault());
}

/** The settings, or null where one cannot be; the form then says which. */
export function readSettings() {
  const wrong = firstWrong();
  const box = byId("settings-error");
  box.hidden = !wrong;
  box.textContent = wrong;
  if (wrong) {
    byId("settings").open = true;
    return null;
  }
  const names = ["seed", "steps", "samples", "scale", "class", ...(isTold() ? ["guidance"] : [])];
  const given = Object.fromEntries(names.map((name) => [name, byId(name).value.trim()]));
  const asked = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== ""));
  return { ...asked, compare: byId("compare").checked };
}

/** Whether a class is named; the first choice is to tell nothing. */
function isTold() {
  return byId("class").selectedIndex > 0;
}

function firstWrong() {
  const seed = byId("seed").value.trim();
  if (seed && !(/^\d{1,20}$/.test(seed) && BigInt(seed) <= SEED_MOST)) return "Seed: a whole number from 0 to 2⁶⁴ − 1.";
  if (!byId("guidance").checkValidity()) return `Guidance: from 0 to ${byId("guidance").max}.`;
  const wrong = ["steps", "samples", "scale"].map(byId).find((input) => !input.checkValidity());
  if (!wrong) return "";
  const most = wrong.max ? ` to ${wrong.max}` : "";
  return `${wrong.name[0].toUpperCase()}${wrong.name.slice(1)}: a whole number from ${wrong.min}${most}.`;
}

function summarise() {
  const [seed, steps, samples, scale] = ["seed", "steps", "samples", "scale"].map((name) => byId(name).value || "default");
  const loop = `seed ${seed}, ${steps} steps, ${samples} ${samples === "1" ? "sample" : "samples"}`;
  const told = isTold() ? `, told ${byId("class").value}` : "";
  byId("settings-now").textContent = `${byId("steps").disabled ? "one pass" : loop}${told}, ×${scale}`;
  if (!firstWrong()) byId("settings-error").hidden = true;
}
