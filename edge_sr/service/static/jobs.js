// The images of this visit: a few are on their way at a time, the rest wait here, and each can be stopped.

import { enlarge, Trouble } from "./api.js";
import { byId, make } from "./dom.js";

const AT_ONCE = 2;
const TRIES = 5;
const WORDS = { receiving: "sending", reading: "reading", running: "enlarging", writing: "almost done" };

export class Jobs {
  /** `on` has change(job), for a job that is done, failed, or wants a token; and say(text), for those who listen. */
  constructor(on) {
    this.on = on;
    this.list = [];
    this.shown = null;
    this.isHeld = true;
    this.maxBytes = 0;
  }

  add(files, settings) {
    const jobs = [...files].map((file, i) => ({ file, name: file.name || "pasted image", settings, state: "queued", tries: 0, isFirst: i === 0 }));
    for (const job of jobs) {
      this.list.unshift(job);
      this.paint(job);
      byId("jobs").prepend(job.item);
    }
    this.pump();
  }

  /** Lets waiting images go, or keeps them until there is a token. */
  hold(isHeld) {
    this.isHeld = isHeld;
    this.pump();
  }

  pump() {
    if (this.isHeld) return;
    const under = this.list.filter((job) => job.state === "under way").length;
    const next = this.list.filter((job) => job.state === "queued").reverse();
    for (const job of next.slice(0, Math.max(0, AT_ONCE - under))) this.run(job);
  }

  async run(job) {
    job.stop = new AbortController();
    this.set(job, "under way", "sending");
    try {
      job.result = await enlarge(job.file, job.settings, {
        signal: job.stop.signal, maxBytes: this.maxBytes,
        onStage: (progress) => this.tell(job, progress),
      });
      this.set(job, "done", `${job.result.width} × ${job.result.height}`);
      this.on.say(`${job.name}: done, ${job.result.width} by ${job.result.height} pixels.`);
    } catch (error) {
      await this.fail(job, error);
    }
    this.on.change(job);
    this.pump();
  }

  tell(job, { stage, place, seconds }) {
    if (job.state !== "under way" || stage === "unknown") return;
    const words = stage === "waiting" ? `place ${place} in the queue` : WORDS[stage] ?? stage;
    if (words !== job.words) this.on.say(`${job.name}: ${words}.`);
    job.words = words;
    this.set(job, "under way", stage === "running" ? `${words}, ${seconds.toFixed(0)} s` : words);
  }

  async fail(job, error) {
    if (error.name === "AbortError") return this.set(job, "stopped", "stopped");
    if (error.wantsToken) {
      this.isHeld = true;
      job.trouble = error;
      return this.set(job, "queued", "waits for the token");
    }
    job.tries += 1;
    if (error.isPassing && job.tries < TRIES) return this.wait(job, error);
    job.trouble = error instanceof Trouble ? error : new Trouble({ title: "Cannot be shown", detail: error.message });
    this.set(job, "failed", job.trouble.title);
    return undefined;
  }

  /** Waits as long as the service asks, second by second, and then puts the job back into line. */
  async wait(job, trouble) {
    this.on.say(`${job.name}: ${trouble.detail}. Trying again in ${trouble.retryAfter || 1} s.`);
    for (let left = trouble.retryAfter || 1; left > 0; left -= 1) {
      this.set(job, "under way", `busy; again in ${left} s`);
      await new Promise((resolve) => setTimeout(resolve, 1000));
      if (job.stop.signal.aborted) return this.set(job, "stopped", "stopped");
    }
    return this.set(job, "queued", "waits");
  }

  set(job, state, text) {
    Object.assign(job, { state, text });
    this.paint(job);
  }

  select(job) {
    this.shown = job;
    this.list.forEach((each) => this.paint(each));
  }

  remove(job) {
    if (job.state === "under way") return job.stop.abort();
    this.list = this.list.filter((each) => each !== job);
    job.item.remove();
    this.on.gone(job);
    return this.pump();
  }

  again(job, settings) {
    if (settings) this.add([job.file], settings);
  }

  /** Draws a job's line; its buttons stay the same ones, so that none loses the focus. */
  paint(job) {
    if (!job.item) this.build(job);
    const { item, parts } = job;
    item.className = `job ${job.state.replace(" ", "-")}`;
    parts.show.setAttribute("aria-pressed", String(this.shown === job));
    parts.show.disabled = job.state !== "done" && job.state !== "failed";
    parts.text.textContent = job.text ?? "waits";
    parts.bar.hidden = job.state !== "under way";
    parts.again.hidden = job.state === "queued" || job.state === "under way";
    parts.remove.textContent = job.state === "under way" ? "Stop" : "Remove";
    parts.remove.setAttribute("aria-label", `${parts.remove.textContent} ${job.name}`);
  }

  build(job) {
    const parts = {
      show: make("button", { type: "button", className: "name" }, job.name),
      text: make("span", { className: "state" }),
      bar: make("progress", { "aria-label": `${job.name} is on its way` }),
      again: make("button", { type: "button", className: "quiet", "aria-label": `Again, with the settings of now: ${job.name}` }, "Again"),
      remove: make("button", { type: "button", className: "quiet" }),
    };
    parts.show.addEventListener("click", () => this.on.choose(job));
    parts.again.addEventListener("click", () => this.on.again(job));
    parts.remove.addEventListener("click", () => this.remove(job));
    job.parts = parts;
    job.item = make("li", {}, parts.show, parts.text, parts.bar, make("span", { className: "actions" }, parts.again, parts.remove));
  }
}
