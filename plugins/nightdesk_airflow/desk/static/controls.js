// The viewer's controls and its readout: what is on the page around the canvas.
import { isTyping } from "./desk.js";
import { Viewer, decode, encode } from "./viewer.js";

const KEPT = "nightdesk-display";
const byId = (id) => document.getElementById(id);
const short = (value) => Number(value.toPrecision(5)).toString();

/** Make the viewer of a page and join it to the controls; resolves when the first image is known. */
export async function mount({ group, images, first }) {
  const viewer = new Viewer(byId("view"), group);
  if (first) viewer.know(images[0], first);
  window.deskViewer = viewer; // for whoever opens the console
  const blinker = joinImages(viewer, images);
  joinDisplay(viewer);
  joinReadout(viewer);
  joinOverlays(viewer);
  joinHistogram(viewer);
  joinZoom(viewer);
  joinKeys(viewer, blinker);
  await blinker.show(0);
  return { viewer, blinker };
}

function joinImages(viewer, images) {
  const select = byId("image");
  let timer = null, number = 0;
  const blinker = {
    get number() { return number; },
    async show(next) {
      number = (next + images.length) % images.length;
      select.value = String(number);
      await viewer.show(images[number]);
      // The next one is fetched ahead, so that blinking does not wait for it.
      if (images.length > 1) viewer.describe(images[(number + 1) % images.length]).catch(() => {});
    },
    step(by) { return blinker.show(number + by); },
    stop() { clearInterval(timer); timer = null; byId("blink")?.setAttribute("aria-pressed", "false"); },
    toggle() {
      if (timer) { blinker.stop(); return; }
      byId("blink").setAttribute("aria-pressed", "true");
      timer = setInterval(() => blinker.step(1), Number(byId("pace").value));
    },
  };
  select.addEventListener("change", () => { blinker.stop(); blinker.show(Number(select.value)); });
  byId("back")?.addEventListener("click", () => { blinker.stop(); blinker.step(-1); });
  byId("forth")?.addEventListener("click", () => { blinker.stop(); blinker.step(1); });
  byId("blink")?.addEventListener("click", blinker.toggle);
  byId("pace")?.addEventListener("change", () => { if (timer) { blinker.stop(); blinker.toggle(); } });
  return blinker;
}

function joinDisplay(viewer) {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) || "{}");
  const range = byId("range"), stretch = byId("stretch"), invert = byId("invert"), low = byId("low"), high = byId("high");
  let wantedRange = kept.range || "";
  if (kept.stretch) stretch.value = kept.stretch;
  invert.checked = Boolean(kept.invert);
  Object.assign(viewer.display, { stretch: stretch.value, invert: invert.checked });
  const keep = () => sessionStorage.setItem(KEPT, JSON.stringify({ stretch: stretch.value, invert: invert.checked, range: wantedRange }));
  const apply = () => {
    const limits = viewer.image.limits[range.value];
    if (limits) viewer.setDisplay({ low: limits[0], high: limits[1] });
  };
  viewer.addEventListener("image", () => {
    const names = Object.keys(viewer.image.limits);
    range.replaceChildren(...[...names, "as set"].map((name) => new Option(name)));
    if (wantedRange === "as set") { range.value = "as set"; return; }
    range.value = names.includes(wantedRange) ? wantedRange : names[0];
    const limits = viewer.image.limits[range.value];
    Object.assign(viewer.display, { low: limits[0], high: limits[1] });
    viewer.retable();
    viewer.dispatchEvent(new Event("display"));
  });
  range.addEventListener("change", () => { wantedRange = range.value; keep(); apply(); });
  stretch.addEventListener("change", () => { keep(); viewer.setDisplay({ stretch: stretch.value }); });
  invert.addEventListener("change", () => { keep(); viewer.setDisplay({ invert: invert.checked }); });
  const typed = () => {
    const values = [Number(low.value), Number(high.value)];
    if (values.every(Number.isFinite) && values[0] < values[1]) viewer.setLimits(...values);
  };
  viewer.setLimits = (from, to) => { wantedRange = "as set"; range.value = "as set"; viewer.setDisplay({ low: from, high: to }); };
  low.addEventListener("change", typed);
  high.addEventListener("change", typed);
  viewer.addEventListener("display", () => { low.value = short(viewer.display.low); high.value = short(viewer.display.high); });
}

function joinReadout(viewer) {
  const set = (id, text) => { byId(id).textContent = text; };
  const clear = () => { for (const id of ["r-value", "r-variance", "r-flags", "r-coverage", "r-position"]) set(id, "–"); };
  viewer.addEventListener("image", () => { set("shown", viewer.image.label); clear(); });
  viewer.addEventListener("cursor", () => {
    set("r-pixel", viewer.cursor ? `${viewer.cursor.x + 1}, ${viewer.cursor.y + 1}` : "–");
    if (!viewer.cursor) clear();
  });
  viewer.addEventListener("pixel", ({ detail }) => {
    if (!viewer.cursor || viewer.cursor.x !== detail.x || viewer.cursor.y !== detail.y) return;
    set("r-value", `${detail.value} ${detail.image.unit}`);
    set("r-variance", detail.variance === null ? "–" : `${detail.variance} (σ ${detail.sigma ?? "–"})`);
    set("r-flags", detail.flags.join(", ") || "none");
    set("r-coverage", detail.coverage === null ? "–" : String(detail.coverage));
    set("r-position", detail.position ? `${detail.position.ra} ${detail.position.dec}` : "–");
    byId("readout").dataset.pixel = `${detail.x},${detail.y}`;
  });
}

function joinOverlays(viewer) {
  const box = byId("overlays");
  const chosen = { bits: 0, coverage: false, rejected: false, star: true };
  const tick = (label, swatch, checked, act) => {
    const input = Object.assign(document.createElement("input"), { type: "checkbox", checked });
    input.addEventListener("change", () => { act(input.checked); viewer.setOverlays(chosen); });
    const colour = document.createElement("span");
    colour.className = `swatch ${swatch}`;
    const line = document.createElement("label");
    line.append(input, colour, label);
    return line;
  };
  let shown = "";
  viewer.addEventListener("image", () => {
    const { planes, flags, star } = viewer.image;
    const name = [planes.join(), Boolean(star)].join();
    if (name === shown) return;
    shown = name;
    const lines = [];
    if (planes.includes("dq")) {
      for (const { bit, meaning } of flags) {
        lines.push(tick(meaning, `b${bit}`, Boolean(chosen.bits & bit), (on) => { chosen.bits = on ? chosen.bits | bit : chosen.bits & ~bit; }));
      }
    }
    if (planes.includes("coverage")) lines.push(tick("frames at each pixel", "coverage", chosen.coverage, (on) => { chosen.coverage = on; }));
    if (planes.includes("rejected")) lines.push(tick("rejected values", "rejected", chosen.rejected, (on) => { chosen.rejected = on; }));
    if (star) lines.push(tick("alignment star", "star", chosen.star, (on) => { chosen.star = on; }));
    const none = Object.assign(document.createElement("p"), { className: "quiet small", textContent: "This image has none." });
    box.replaceChildren(box.querySelector("legend"), ...(lines.length ? lines : [none]));
  });
}

function joinHistogram(viewer) {
  const canvas = byId("histogram"), context = canvas.getContext("2d");
  let ends = [0, 1];
  const place = (value) => (encode(viewer.image.coding, value) - ends[0]) / (ends[1] - ends[0]) * canvas.width;
  const draw = () => {
    const image = viewer.image;
    if (!image || !image.histogram.length) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = 90 * ratio;
    const filled = image.histogram.flatMap((count, bin) => (count ? [bin] : []));
    const codes = [viewer.display.low, viewer.display.high].map((value) => encode(image.coding, value));
    ends = [Math.min(filled[0] * 64, ...codes) - 400, Math.max((filled.at(-1) + 1) * 64, ...codes) + 400];
    const most = Math.log1p(Math.max(...image.histogram));
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--quiet");
    const scale = canvas.width / (ends[1] - ends[0]);
    for (const bin of filled) {
      const height = Math.log1p(image.histogram[bin]) / most * (canvas.height - 4);
      context.fillRect((bin * 64 - ends[0]) * scale, canvas.height - height, Math.max(1, 64 * scale), height);
    }
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--link");
    for (const value of [viewer.display.low, viewer.display.high]) context.fillRect(place(value) - ratio, 0, 2 * ratio, canvas.height);
  };
  let held = null;
  const drag = (event) => {
    const box = canvas.getBoundingClientRect();
    const code = ends[0] + (event.clientX - box.left) / box.width * (ends[1] - ends[0]);
    const value = decode(viewer.image.coding, code);
    const { low, high } = viewer.display;
    held ??= Math.abs(code - encode(viewer.image.coding, low)) < Math.abs(code - encode(viewer.image.coding, high)) ? "low" : "high";
    if (held === "low" && value < high) viewer.setLimits(value, high);
    if (held === "high" && value > low) viewer.setLimits(low, value);
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); held = null; drag(event); });
  canvas.addEventListener("pointermove", (event) => { if (canvas.hasPointerCapture(event.pointerId)) drag(event); });
  viewer.addEventListener("image", draw);
  viewer.addEventListener("display", draw);
  addEventListener("themechange", draw);
  new ResizeObserver(draw).observe(canvas);
}

function joinZoom(viewer) {
  byId("fit").addEventListener("click", () => viewer.fit());
  byId("one").addEventListener("click", () => viewer.oneToOne());
  byId("in").addEventListener("click", () => viewer.zoom(2));
  byId("out").addEventListener("click", () => viewer.zoom(0.5));
  viewer.addEventListener("view", () => { byId("zoom").textContent = `${short(100 * viewer.view.scale)} %`; });
}

function joinKeys(viewer, blinker) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    if (event.key === "n" || event.key === "p") { blinker.stop(); blinker.step(event.key === "n" ? 1 : -1); }
    else if (event.key === " " && !event.target.closest("button, a, summary, input") && byId("blink")) blinker.toggle();
    else if (["+", "-", "=", "0", "1"].includes(event.key)) viewer.key(event);
    else return;
    event.preventDefault();
  });
}
