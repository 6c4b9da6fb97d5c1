// The viewer: two layers on one canvas, a divider between them, one zoom, one place and one window for both.

import { byId, make } from "./dom.js";
import { autoWindow, fullWindow, mapTable, mapValue, shade, tint, windowTable } from "./plane.js";
import { listenToStage } from "./stage.js";

export const CHOICES = {
  input: "Input pixels",
  bicubic: "Bicubic",
  ours: "edge-sr",
  uncertainty: "edge-sr + uncertainty",
  change: "edge-sr + change",
};
const MOST_ZOOM = 64;
const PREFERRED = { left: ["input", "ours"], right: ["ours"] };

export class Viewer {
  constructor() {
    this.canvas = byId("canvas");
    this.stage = byId("stage");
    this.context = this.canvas.getContext("2d");
    this.result = null;
    this.view = { x: 0, y: 0, zoom: 1 }; // the middle of the stage in pixels of the result, and CSS pixels for each
    this.split = 0.5;
    this.tiles = new Map();
    this.listen();
  }

  listen() {
    listenToStage(this.stage, this);
    byId("divider").addEventListener("input", (event) => this.divide(event.target.value / 100));
    byId("zoom-in").addEventListener("click", () => this.zoomBy(1.5));
    byId("zoom-out").addEventListener("click", () => this.zoomBy(1 / 1.5));
    byId("zoom-fit").addEventListener("click", () => this.fit());
    byId("zoom-one").addEventListener("click", () => this.zoomTo(1 / window.devicePixelRatio));
    byId("squares").addEventListener("change", () => this.draw());
    for (const side of ["left", "right"]) byId(side).addEventListener("change", () => this.relabel());
    byId("level").addEventListener("input", (event) => this.setWindow({ level: Number(event.target.value) }));
    byId("width").addEventListener("input", (event) => this.setWindow({ width: Number(event.target.value) }));
    byId("window-auto").addEventListener("click", () => this.setWindow(autoWindow(this.result.layers.input.levels[0])));
    byId("window-full").addEventListener("click", () => this.setWindow(fullWindow(this.result.depth)));
    new ResizeObserver(() => (this.isFitted ? this.fit() : this.draw())).observe(this.stage);
  }

  /** Shows a result, from where the last one was seen if it has the same size. */
  show(result) {
    const before = this.result;
    const isAlike = before && before.width === result.width && before.height === result.height;
    const isSameDepth = before && before.depth === result.depth;
    this.result = result;
    this.mapTables = Object.fromEntries(Object.entries(result.maps).map(([name, map]) => [name, mapTable(map)]));
    this.offer();
    byId("empty").hidden = true;
    for (const id of ["divider", "level", "width", "window-auto", "window-full"]) byId(id).disabled = false;
    for (const id of ["level", "width"]) {
      Object.assign(byId(id), { min: id === "width" ? 1 : 0, max: 2 ** result.depth - 1, step: result.depth > 8 ? 16 : 1 });
    }
    this.setWindow(isAlike && isSameDepth ? this.window : result.startWindow);
    if (isAlike && !this.isFitted) this.draw();
    else this.fit();
    this.relabel();
  }

  /** Shows that there is nothing. */
  clear() {
    this.result = null;
    byId("empty").hidden = false;
    for (const id of ["divider", "level", "width", "window-auto", "window-full"]) byId(id).disabled = true;
    for (const id of ["tag-left", "tag-right", "level-now", "width-now", "depth"]) byId(id).textContent = "";
    byId("legends").replaceChildren();
    this.canvas.setAttribute("aria-label", "No image yet");
    this.draw();
  }

  offer() {
    const { layers, maps } = this.result;
    for (const side of ["left", "right"]) {
      const select = byId(side);
      const chosen = [select.value, ...PREFERRED[side]].find((name) => name in layers || name in maps);
      select.replaceChildren(...Object.entries(CHOICES).map(([name, words]) => {
        const isHere = name in layers || name in maps;
        return make("option", { value: name, disabled: !isHere }, isHere ? words : `${words} (not asked for)`);
      }));
      select.value = chosen;
    }
  }

  divide(share) {
    this.split = Math.min(1, Math.max(0, share));
    const divider = byId("divider");
    divider.value = Math.round(100 * this.split);
    const [left, right] = this.sides().map((name) => CHOICES[name]);
    divider.setAttribute("aria-valuetext", `${divider.value} % ${left}, ${100 - divider.value} % ${right}`);
    this.draw();
  }

  sides() {
    return [byId("left").value, byId("right").value];
  }

  relabel() {
    if (!this.result) return;
    const [left, right] = this.sides();
    byId("tag-left").textContent = tag(left);
    byId("tag-right").textContent = tag(right);
    const { width, height } = this.result;
    this.canvas.setAttribute("aria-label", `Left: ${CHOICES[left]}. Right: ${CHOICES[right]}. ${width} by ${height} pixels.`);
    this.showLegends(new Set([left, right]));
    this.divide(this.split);
  }

  showLegends(shown) {
    const legends = Object.entries(this.result.maps).filter(([name]) => shown.has(name)).map(([, map]) => legend(map));
    byId("legends").replaceChildren(...legends);
  }

  setWindow(changes) {
    const most = 2 ** this.result.depth - 1;
    const { level, width } = { ...this.window, ...changes };
    this.window = { level: Math.min(most, Math.max(0, level)), width: Math.min(most, Math.max(1, width)) };
    this.table = windowTable(this.result.depth, this.window);
    for (const name of ["level", "width"]) {
      byId(name).value = this.window[name];
      byId(`${name}-now`).textContent = Math.round(this.window[name]).toLocaleString("en");
    }
    this.tiles.clear();
    this.draw();
  }

  /** Changes the window by a drag of so many CSS pixels: across for its width, up for a brighter image. */
  dragWindow(dx, dy) {
    if (!this.result) return;
    const unit = 2 ** this.result.depth / 400;
    this.setWindow({ width: this.window.width + dx * unit, level: this.window.level + dy * unit });
  }

  fit() {
    if (!this.result || !this.stage.clientWidth) return;
    const { width, height } = this.result;
    this.view = {
      x: width / 2, y: height / 2, zoom: Math.min(this.stage.clientWidth / width, this.stage.clientHeight / height),
    };
    this.isFitted = true;
    this.draw();
  }

  zoomBy(factor, at) {
    if (this.result) this.zoomTo(this.view.zoom * factor, at);
  }

  /** Zooms about a place of the stage in CSS pixels from its middle, which stays where it is. */
  zoomTo(wanted, at = { x: 0, y: 0 }) {
    if (!this.result) return;
    const { width, height } = this.result;
    const least = Math.min(1, this.stage.clientWidth / width / 2, this.stage.clientHeight / height / 2);
    const zoom = Math.min(MOST_ZOOM, Math.max(least, wanted));
    const keep = 1 / this.view.zoom - 1 / zoom;
    this.look({ x: this.view.x + at.x * keep, y: this.view.y + at.y * keep, zoom });
  }

  /** Moves the image under the stage by CSS pixels. */
  moveBy(dx, dy) {
    if (this.result) this.look({ ...this.view, x: this.view.x - dx / this.view.zoom, y: this.view.y - dy / this.view.zoom });
  }

  /** Brings a rectangle of the result to the middle, with some room around it. */
  goTo({ x, y, width, height }) {
    const room = Math.min(this.stage.clientWidth / width, this.stage.clientHeight / height);
    this.look({ x: x + width / 2, y: y + height / 2, zoom: Math.min(MOST_ZOOM, room / 3) });
  }

  look({ x, y, zoom }) {
    const { width, height } = this.result;
    this.view = { x: Math.min(width, Math.max(0, x)), y: Math.min(height, Math.max(0, y)), zoom };
    this.isFitted = false;
    this.draw();
  }

  /** What the layers have under a place of the stage, in words. */
  readout(at) {
    if (!this.result) return "";
    const x = Math.floor(this.view.x + at.x / this.view.zoom);
    const y = Math.floor(this.view.y + at.y / this.view.zoom);
    const { width, height, layers, maps } = this.result;
    if (x < 0 || y < 0 || x >= width || y >= height) return "";
    const values = Object.entries(layers).map(([name, { levels, unit }]) => `${CHOICES[name]} ${valueAt(levels[0], x, y, unit)}`);
    const spreads = Object.values(maps).map((map) => `${map.short} ${mapValue(map, valueAt(map.levels[0], x, y, 1)).toFixed(1)}`);
    return `x ${x}, y ${y}: ${[...values, ...spreads].join(" · ")}`;
  }

  draw() {
    const ratio = window.devicePixelRatio;
    const { canvas, context } = this;
    const [width, height] = [Math.round(this.stage.clientWidth * ratio), Math.round(this.stage.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.clearRect(0, 0, width, height);
    byId("line").hidden = !this.result;
    byId("zoom").textContent = this.result ? `${Math.round(100 * this.view.zoom * ratio)} %` : "–";
    if (!this.result) return;
    const split = Math.round(width * this.split);
    const [left, right] = this.sides();
    this.drawSide(left, 0, split);
    this.drawSide(right, split, width);
    byId("line").style.setProperty("left", `${split / ratio}px`);
  }

  drawSide(name, from, to) {
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(from, 0, to - from, this.canvas.height);
    context.clip();
    const { layers, maps } = this.result;
    const base = name in maps ? "ours" : name;
    const isSmooth = base !== "input" && !byId("squares").checked;
    this.drawPlane(base, layers[base], isSmooth, (plane, part) => shade(plane, this.table, part));
    if (name in maps) {
      this.drawPlane(name, { ...maps[name], unit: 1 }, isSmooth, (plane, part) => tint(plane, this.mapTables[name], part));
    }
    context.restore();
  }

  /** Draws what can be seen of a plane, from the copy whose pixels are nearest to the screen's and not larger. */
  drawPlane(name, { levels, unit }, isSmooth, colour) {
    const zoom = this.view.zoom * window.devicePixelRatio;
    const far = Math.min(levels.length - 1, Math.max(0, Math.floor(-Math.log2(zoom * unit))));
    const plane = levels[far];
    const size = zoom * unit * 2 ** far; // of a pixel of the plane on the screen
    const left = this.canvas.width / 2 - this.view.x * zoom;
    const top = this.canvas.height / 2 - this.view.y * zoom;
    const x = Math.max(0, Math.floor(-left / size) - 1);
    const y = Math.max(0, Math.floor(-top / size) - 1);
    const w = Math.min(plane.width, Math.ceil((this.canvas.width - left) / size) + 1) - x;
    const h = Math.min(plane.height, Math.ceil((this.canvas.height - top) / size) + 1) - y;
    if (w <= 0 || h <= 0) return;
    const tile = this.tile(name, `${far} ${x} ${y} ${w} ${h}`, () => colour(plane, { x, y, w, h }));
    this.context.imageSmoothingEnabled = isSmooth || size < 1;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(tile, left + x * size, top + y * size, w * size, h * size);
  }

  /** The last drawn part of a plane, or a new one. */
  tile(name, key, make_) {
    const found = this.tiles.get(name);
    if (found && found.key === key && found.result === this.result) return found.canvas;
    const pixels = make_();
    const canvas = make("canvas", { width: pixels.width, height: pixels.height });
    canvas.getContext("2d").putImageData(pixels, 0, 0);
    this.tiles.set(name, { key, canvas, result: this.result });
    return canvas;
  }
}

const tag = (name) => (name === "input" || name === "bicubic" ? CHOICES[name] : `${CHOICES[name]} · generated detail`);

function valueAt({ width, channels, data }, x, y, unit) {
  const at = (Math.floor(y / unit) * width + Math.floor(x / unit)) * channels;
  return channels === 1 ? data[at] : [...data.subarray(at, at + channels)].join("/");
}

/** A map's scale: its colours, its ends, its unit, and what it means. */
function legend(map) {
  const canvas = make("canvas", { width: map.colours.length, height: 1, "aria-hidden": "true" });
  const context = canvas.getContext("2d");
  map.colours.forEach((colour, x) => {
    context.fillStyle = `#${colour}`;
    context.fillRect(x, 0, 1, 1);
  });
  const middle = (map.low + map.high) / 2;
  const number = (value) => value.toLocaleString("en", { maximumSignificantDigits: 3, signDisplay: map.low < 0 ? "exceptZero" : "auto" });
  const ends = [map.low < 0 ? `${number(map.low)} or less` : "0", number(middle), `${number(map.high)} or more`];
  return make("figure", { className: "legend" },
    make("figcaption", {}, make("strong", {}, map.title), `, in ${map.unit}. ${map.words}`),
    canvas,
    make("div", { className: "ends" }, ...ends.map((text) => make("span", {}, text))));
}
