// A viewer of real pixels: 16-bit tiles, looked up in a table of 65,536 colours, on a canvas.
//
// Image coordinates are 0-based and whole at the centres of pixels, x to the right and y up; what a person reads counts
// from 1, as DS9 does. The server has the exact value of a pixel; the tiles are for the eye.
import { ask, askJson, query } from "./desk.js";

const MOST_TILES = 400;
const ZOOMS = { least: 1 / 64, most: 64 };
const LONGEST_WAIT = 3000; // for an image to be shown whole; then what is there is shown
export const pause = (time) => new Promise((done) => { setTimeout(done, time); });
export const FLAG_COLOURS = {
  1: [255, 92, 92], 2: [192, 132, 252], 4: [250, 204, 21], 8: [56, 189, 248],
  16: [148, 163, 184], 32: [244, 114, 182], 64: [74, 222, 128],
};
const COUNT_COLOURS = { coverage: [34, 211, 238], rejected: [251, 146, 60] };

export const decode = (coding, code) => coding.sky + coding.noise * Math.sinh((code - 1) / coding.steps + coding.lowest);
export const encode = (coding, value) => Math.round((Math.asinh((value - coding.sky) / coding.noise) - coding.lowest) * coding.steps) + 1;

const STRETCHES = {
  linear: (t) => t,
  asinh: (t) => Math.asinh(t * 10) / Math.asinh(10),
  log: (t) => Math.log1p(t * 1000) / Math.log1p(1000),
};

/** The colour of each of the 65,536 numbers; numbers that mean no value are transparent. */
export function colourTable(coding, low, high, stretch, invert) {
  const table = new Uint32Array(65536);
  const curve = STRETCHES[stretch];
  const range = high - low || 1;
  for (let code = 1; code < 65536; code++) {
    const share = Math.min(1, Math.max(0, (decode(coding, code) - low) / range));
    const grey = Math.round(255 * (invert ? 1 - curve(share) : curve(share)));
    table[code] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}

class TileStore {
  constructor() { this.tiles = new Map(); }

  /** The tile, which is here when it has `codes`; else it is asked for, and `arrived` is kept when it has come or not. */
  get(key, load) {
    let tile = this.tiles.get(key);
    if (!tile) {
      tile = { codes: null, canvas: null, painted: null, awaited: false };
      const forget = () => { if (this.tiles.get(key) === tile) this.tiles.delete(key); };
      tile.arrived = load().then((codes) => { tile.codes = codes; }, forget);
    }
    this.tiles.delete(key);
    this.tiles.set(key, tile); // the most recently used are the last
    for (const old of this.tiles.keys()) {
      if (this.tiles.size <= MOST_TILES) break;
      this.tiles.delete(old);
    }
    return tile;
  }

  peek(key) { const tile = this.tiles.get(key); return tile && tile.codes ? tile : null; }
}

export class Viewer extends EventTarget {
  constructor(canvas, group) {
    super();
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.group = group;
    this.store = new TileStore();
    this.image = null;
    this.facts = new Map();
    this.view = null; // centre x, y in image pixels; scale in canvas pixels for an image pixel
    this.display = { stretch: "asinh", low: 0, high: 1, invert: false };
    this.overlays = { bits: 0, coverage: false, rejected: false, star: true };
    this.marks = [];
    this.cursor = null;
    this.table = null;
    this.waiting = false;
    this.pointers = new Map();
    this.resize(); // or the first picture would be painted for a canvas of another size, and then again
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.listen();
  }

  // What is shown

  /** Take what the page brought along of its first image. */
  know(wanted, facts) {
    const key = `${wanted.step}/${wanted.name}`;
    this.facts.set(key, Promise.resolve({ ...facts, key, title: wanted.title }));
  }

  async describe(wanted) {
    const key = `${wanted.step}/${wanted.name}`;
    if (!this.facts.has(key)) {
      const asked = query({ group: this.group, step: wanted.step, name: wanted.name });
      const promise = askJson(`image?${asked}`).then((facts) => ({ ...facts, key, title: wanted.title }));
      this.facts.set(key, promise);
      promise.catch(() => this.facts.delete(key));
    }
    return this.facts.get(key);
  }

  /** Show another image, whole; place and zoom are kept where the images have one size. */
  async show(wanted) {
    this.wanted = wanted;
    const facts = await this.describe(wanted);
    // The first image of a page is a stack's one tile for all of it: coarse, but there at once, so that the first frame
    // that the browser paints has it. Of a frame it would have to be made.
    const coarse = !this.image && facts.step === "stack" && this.tile("sci", facts.levels, 0, 0, facts).arrived;
    const ready = this.isAlike(facts) ? this.fetchView(facts) : coarse;
    if (ready) await Promise.race([ready, pause(LONGEST_WAIT)]);
    if (this.wanted !== wanted) return;
    const before = this.image;
    this.image = facts;
    if (!before || before.shape.join() !== facts.shape.join()) this.fit();
    this.dispatchEvent(new Event("image")); // the controls choose the range
    this.retable();
    this.readCursor();
    this.draw();
  }

  isAlike(facts) { return Boolean(this.image && this.view) && this.image.shape.join() === facts.shape.join(); }

  /** Fetch ahead what would be in view of an image, so that it is there at once when it is shown; this one comes first. */
  async prefetch(wanted) {
    await this.fetchView(this.image);
    const facts = await this.describe(wanted);
    if (this.isAlike(facts)) await this.fetchView(facts);
  }

  async fetchView(image) {
    const level = this.level(image);
    const tiles = this.kinds(image).flatMap((kind) => this.inView(image, level).map((place) => this.tile(kind, level, ...place, image)));
    await Promise.all(tiles.map((tile) => tile.arrived));
  }

  setDisplay(changes) { Object.assign(this.display, changes); this.retable(); this.dispatchEvent(new Event("display")); this.draw(); }
  setOverlays(changes) { Object.assign(this.overlays, changes); this.draw(); }
  setMarks(marks) { this.marks = marks; this.draw(); }

  retable() {
    if (!this.image) return;
    const { low, high, stretch, invert } = this.display;
    this.table = colourTable(this.image.coding, low, high, stretch, invert);
    this.tableName = [this.image.coding.sky, this.image.coding.noise, low, high, stretch, invert].join();
  }

  // Where it is shown

  resize() {
    const ratio = window.devicePixelRatio || 1;
    const box = this.canvas.getBoundingClientRect();
    const width = Math.max(1, Math.round(box.width * ratio)), height = Math.max(1, Math.round(box.height * ratio));
    if (this.canvas.width === width && this.canvas.height === height) return;
    const wasFitted = this.view && this.fitted;
    this.canvas.width = width;
    this.canvas.height = height;
    if (this.image && (!this.view || wasFitted)) this.fit();
    this.draw();
  }

  fit() {
    const [ny, nx] = this.image.shape;
    const scale = Math.min(this.canvas.width / nx, this.canvas.height / ny);
    this.setView({ x: (nx - 1) / 2, y: (ny - 1) / 2, scale });
    this.fitted = true;
  }

  setView(view) {
    const [ny, nx] = this.image.shape;
    const limit = (value, low, high) => Math.min(high, Math.max(low, value));
    this.view = {
      x: limit(view.x, -0.5, nx - 0.5),
      y: limit(view.y, -0.5, ny - 0.5),
      scale: limit(view.scale, ZOOMS.least, ZOOMS.most),
    };
    this.fitted = false;
    this.dispatchEvent(new Event("view"));
    this.draw();
  }

  /** Zoom about a place on the canvas (canvas pixels), which stays where it is. */
  zoom(factor, place = { x: this.canvas.width / 2, y: this.canvas.height / 2 }) {
    const about = this.toImage(place);
    const scale = Math.min(ZOOMS.most, Math.max(ZOOMS.least, this.view.scale * factor));
    this.setView({
      x: about.x - (place.x - this.canvas.width / 2) / scale,
      y: about.y + (place.y - this.canvas.height / 2) / scale,
      scale,
    });
  }

  toImage(place) {
    return {
      x: this.view.x + (place.x - this.canvas.width / 2) / this.view.scale,
      y: this.view.y - (place.y - this.canvas.height / 2) / this.view.scale,
    };
  }

  toCanvas(point) {
    return {
      x: this.canvas.width / 2 + (point.x - this.view.x) * this.view.scale,
      y: this.canvas.height / 2 - (point.y - this.view.y) * this.view.scale,
    };
  }

  // Drawing

  draw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.paint(); });
  }

  paint() {
    const { context, canvas } = this;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#08090f";
    context.fillRect(0, 0, canvas.width, canvas.height);
    if (!this.image || !this.view) return;
    this.missing = this.blank = 0; // tiles that are not here yet; those of which nothing coarser is here either
    const [ny, nx] = this.image.shape;
    const corner = this.toCanvas({ x: -0.5, y: ny - 0.5 }), opposite = this.toCanvas({ x: nx - 0.5, y: -0.5 });
    context.save();
    context.beginPath();
    context.rect(corner.x, corner.y, opposite.x - corner.x, opposite.y - corner.y);
    context.clip();
    const level = this.level(this.image);
    context.imageSmoothingEnabled = this.view.scale * 2 ** level < 1;
    for (const kind of this.kinds(this.image)) this.paintKind(kind, level);
    context.restore();
    this.paintMarks();
    this.paintCursor();
    if (!this.missing) this.dispatchEvent(new Event("painted"));
  }

  level(image) { return Math.min(image.levels, Math.max(0, Math.floor(Math.log2(1 / this.view.scale)))); }

  /** The planes that are painted, one over the other. */
  kinds(image) {
    const over = { dq: this.overlays.bits, coverage: this.overlays.coverage, rejected: this.overlays.rejected };
    return ["sci", ...Object.keys(over).filter((kind) => over[kind] && image.planes.includes(kind))];
  }

  /** Rows and columns of the tiles of a level that are in view. */
  inView(image, level) {
    const size = image.tile * 2 ** level;
    const [ny, nx] = image.shape;
    const first = this.toImage({ x: 0, y: this.canvas.height }), last = this.toImage({ x: this.canvas.width, y: 0 });
    const range = (low, high, length) => [
      Math.max(0, Math.floor((low + 0.5) / size)),
      Math.min(Math.ceil(length / size) - 1, Math.floor((high + 0.5) / size)),
    ];
    const [left, right] = range(first.x, last.x, nx), [bottom, top] = range(first.y, last.y, ny);
    const places = [];
    for (let row = bottom; row <= top; row++) {
      for (let column = left; column <= right; column++) places.push([row, column]);
    }
    return places;
  }

  /** Draw the tiles of a kind that are in view; where one is not here yet, what is known of coarser levels. */
  paintKind(kind, level) {
    for (const [row, column] of this.inView(this.image, level)) {
      const tile = this.tile(kind, level, row, column);
      if (tile.codes) { this.paintTile(kind, level, row, column, tile); continue; }
      this.missing++;
      if (!this.paintCoarser(kind, level, row, column)) this.blank++;
      if (!tile.awaited) tile.arrived.then(() => tile.codes && this.draw());
      tile.awaited = true;
    }
  }

  tileKey(image, kind, level, row, column) { return [image.key, image.version, kind, level, row, column].join(); }

  tile(kind, level, row, column, image = this.image) {
    return this.store.get(this.tileKey(image, kind, level, row, column), () => this.load(image, kind, level, row, column));
  }

  async load(image, kind, level, row, column) {
    const asked = { group: this.group, step: image.step, name: image.name, kind, level, row, column, version: image.version };
    const answer = await ask(`tile?${query(asked)}`);
    if (!answer.ok) throw new Error(`tile ${answer.status}`);
    const buffer = await answer.arrayBuffer();
    return kind === "sci" ? new Uint16Array(buffer) : new Uint8Array(buffer);
  }

  paintTile(kind, level, row, column, tile, part = null) {
    const name = kind === "sci" ? this.tableName : kind === "dq" ? `dq${this.overlays.bits}` : kind;
    if (tile.painted !== name) { this.colour(kind, tile); tile.painted = name; }
    const size = this.image.tile, factor = 2 ** level;
    const from = part || { x: 0, y: 0, width: size, height: size }; // in pixels of this level, from its lower left
    const x = (column * size + from.x) * factor - 0.5, y = (row * size + from.y) * factor - 0.5;
    const lower = this.toCanvas({ x, y }), upper = this.toCanvas({ x: x + from.width * factor, y: y + from.height * factor });
    // Whole canvas pixels at the seams, so that none shows through.
    const x0 = Math.round(lower.x), x1 = Math.round(upper.x), y0 = Math.round(upper.y), y1 = Math.round(lower.y);
    this.context.drawImage(tile.canvas, from.x, size - from.y - from.height, from.width, from.height, x0, y0, x1 - x0, y1 - y0);
  }

  paintCoarser(kind, level, row, column) {
    for (let up = 1; level + up <= this.image.levels; up++) {
      const factor = 2 ** up, size = this.image.tile / factor;
      if (size < 1) return false;
      const parent = this.store.peek(this.tileKey(this.image, kind, level + up, Math.floor(row / factor), Math.floor(column / factor)));
      if (!parent) continue;
      const part = { x: (column % factor) * size, y: (row % factor) * size, width: size, height: size };
      this.paintTile(kind, level + up, Math.floor(row / factor), Math.floor(column / factor), parent, part);
      return true;
    }
    return false;
  }

  colour(kind, tile) {
    const size = this.image.tile;
    const pixels = new ImageData(size, size);
    const out = new Uint32Array(pixels.data.buffer);
    const table = kind === "sci" ? this.table : kind === "dq" ? this.flagTable() : countTable(kind);
    for (let row = 0; row < size; row++) {
      const source = row * size, target = (size - 1 - row) * size; // rows go up in the tile, down on the canvas
      for (let column = 0; column < size; column++) out[target + column] = table[tile.codes[source + column]];
    }
    tile.canvas ||= new OffscreenCanvas(size, size);
    tile.canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  flagTable() {
    const table = new Uint32Array(256);
    for (let value = 1; value < 256; value++) {
      const bit = Object.keys(FLAG_COLOURS).map(Number).find((one) => value & one & this.overlays.bits);
      if (bit) { const [r, g, b] = FLAG_COLOURS[bit]; table[value] = (0xb0 << 24) | (b << 16) | (g << 8) | r; }
    }
    return table;
  }

  paintMarks() {
    const marks = [...this.marks];
    if (this.overlays.star && this.image.star) marks.push({ ...this.image.star, colour: "#00e5a0" });
    const ratio = window.devicePixelRatio || 1;
    for (const mark of marks) {
      const place = this.toCanvas(mark);
      const radius = Math.max(9 * ratio, 7 * this.view.scale);
      this.context.strokeStyle = "#000";
      this.context.lineWidth = 4 * ratio;
      for (let pass = 0; pass < 2; pass++) {
        this.context.beginPath();
        this.context.arc(place.x, place.y, radius, 0, 2 * Math.PI);
        this.context.stroke();
        this.context.strokeStyle = mark.colour || "#00e5a0";
        this.context.lineWidth = 2 * ratio;
      }
    }
  }

  paintCursor() {
    if (!this.cursor || !this.keyboard) return;
    const place = this.toCanvas(this.cursor);
    this.context.strokeStyle = "#ff4fa3";
    this.context.lineWidth = window.devicePixelRatio || 1;
    const arm = Math.max(10, this.view.scale);
    this.context.beginPath();
    this.context.moveTo(place.x - arm, place.y); this.context.lineTo(place.x + arm, place.y);
    this.context.moveTo(place.x, place.y - arm); this.context.lineTo(place.x, place.y + arm);
    this.context.stroke();
  }

  // The pixel under the cursor

  /** Move the cursor to a pixel (whole numbers, 0-based) and ask for what is there. */
  moveCursor(point) {
    const [ny, nx] = this.image.shape;
    const inside = point.x >= 0 && point.y >= 0 && point.x < nx && point.y < ny;
    const same = inside && this.cursor && this.cursor.x === point.x && this.cursor.y === point.y;
    this.cursor = inside ? point : null;
    this.dispatchEvent(new CustomEvent("cursor"));
    if (this.keyboard) this.draw();
    if (inside && !same) this.readCursor();
  }

  async readCursor() {
    if (this.reading || !this.cursor || !this.image) { this.again = true; return; }
    this.reading = true;
    this.again = false;
    const { cursor, image } = this;
    try {
      const asked = { group: this.group, step: image.step, name: image.name, x: cursor.x, y: cursor.y };
      const pixel = await askJson(`pixel?${query(asked)}`);
      if (this.image === image) this.dispatchEvent(new CustomEvent("pixel", { detail: { ...pixel, image } }));
    } catch { /* the session has ended, which is said above, or the image is gone */ }
    this.reading = false;
    if (this.again || (this.cursor && (this.cursor.x !== cursor.x || this.cursor.y !== cursor.y))) this.readCursor();
  }

  // Hands

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      x: (event.clientX - box.left) * this.canvas.width / box.width,
      y: (event.clientY - box.top) * this.canvas.height / box.height,
    };
  }

  pixelAt(event) {
    const point = this.toImage(this.place(event));
    return { x: Math.floor(point.x + 0.5), y: Math.floor(point.y + 0.5) };
  }

  listen() {
    const { canvas, pointers } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!this.image) return;
      event.preventDefault();
      this.zoom(2 ** (-Math.sign(event.deltaY) * Math.min(1, Math.abs(event.deltaY) / 120) / 2), this.place(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      if (!this.image) return;
      canvas.setPointerCapture(event.pointerId);
      pointers.set(event.pointerId, this.place(event));
      this.moved = pointers.size > 1 ? Infinity : 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.image) return;
      this.keyboard = false;
      if (pointers.has(event.pointerId)) this.drag(event);
      if (pointers.size < 2) this.moveCursor(this.pixelAt(event));
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        const clicked = kind === "pointerup" && pointers.has(event.pointerId) && this.moved < 5;
        pointers.delete(event.pointerId);
        if (!clicked || !this.image) return;
        this.moveCursor(this.pixelAt(event));
        this.dispatchEvent(new CustomEvent("pick", { detail: this.toImage(this.place(event)) }));
      });
    }
    canvas.addEventListener("dblclick", (event) => this.image && this.zoom(2, this.place(event)));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  drag(event) {
    const { pointers } = this;
    const before = pointers.get(event.pointerId), now = this.place(event);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const distance = (place) => Math.hypot(place.x - other.x, place.y - other.y);
      this.zoom(distance(now) / Math.max(1, distance(before)), { x: (now.x + other.x) / 2, y: (now.y + other.y) / 2 });
    } else {
      this.moved += Math.hypot(now.x - before.x, now.y - before.y);
      const { x, y, scale } = this.view;
      if (this.moved >= 5) this.setView({ x: x - (now.x - before.x) / scale, y: y + (now.y - before.y) / scale, scale });
    }
    pointers.set(event.pointerId, now);
  }

  key(event) {
    if (!this.image || event.ctrlKey || event.metaKey || event.altKey) return;
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (step && event.shiftKey) {
      const { x, y, scale } = this.view;
      this.setView({ x: x + step[0] * 80 / scale, y: y + step[1] * 80 / scale, scale });
    } else if (step) {
      this.keyboard = true;
      const from = this.cursor || { x: Math.round(this.view.x), y: Math.round(this.view.y) };
      this.moveCursor({ x: from.x + step[0], y: from.y + step[1] });
    } else if (event.key === "+" || event.key === "=") this.zoom(Math.SQRT2);
    else if (event.key === "-") this.zoom(Math.SQRT1_2);
    else if (event.key === "0") this.fit();
    else if (event.key === "1") this.oneToOne();
    else if (event.key === "Enter" && this.cursor) this.dispatchEvent(new CustomEvent("pick", { detail: { ...this.cursor } }));
    else return;
    event.preventDefault();
  }

  oneToOne() { this.setView({ ...this.view, scale: 1 }); }
}

function countTable(kind) {
  const table = new Uint32Array(256);
  const [r, g, b] = COUNT_COLOURS[kind];
  for (let value = 1; value < 256; value++) {
    const strength = kind === "coverage" ? Math.min(200, 24 + value * 18) : Math.min(250, 190 + value * 30);
    table[value] = (strength << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}
