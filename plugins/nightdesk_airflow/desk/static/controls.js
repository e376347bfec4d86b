// The viewer's controls and its readout: what is on the page around the canvas.
import { isTyping } from "./desk.js";
import { Viewer, decode, encode, pause } from "./viewer.js";

const KEPT = "nightdesk-display";
const byId = (id) => document.getElementById(id);
const rounded = (value) => Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
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
  let blinking = null, number = 0;
  /** The images that blinking goes through, by their numbers. */
  const among = () => {
    const wanted = byId("among")?.value ?? "all";
    const frame = images[number].name || images.find(({ name }) => name)?.name;
    const fits = { all: () => true, pair: ({ name }) => name === frame }[wanted] ?? (({ step }) => step === wanted);
    return images.flatMap((one, place) => (fits(one) ? [place] : []));
  };
  const beside = (by) => {
    const numbers = among(), place = numbers.indexOf(number);
    return place < 0 ? numbers[0] : numbers[(place + by + numbers.length) % numbers.length];
  };
  const blinker = {
    get number() { return number; },
    async show(next) {
      number = next;
      select.value = String(number);
      await viewer.show(images[number]);
      // The next one is fetched ahead, its pixels too, so that blinking does not wait for it.
      if (beside(1) !== number) viewer.prefetch(images[beside(1)]).catch(() => {});
    },
    step(by) { return blinker.show(beside(by)); },
    stop() { blinking = null; byId("blink")?.setAttribute("aria-pressed", "false"); },
    async toggle() {
      if (blinking) { blinker.stop(); return; }
      const mine = blinking = {};
      byId("blink").setAttribute("aria-pressed", "true");
      while (blinking === mine) {
        await pause(Number(byId("pace").value));
        if (blinking === mine) await blinker.step(1).catch(blinker.stop);
      }
    },
  };
  select.addEventListener("change", () => { blinker.stop(); blinker.show(Number(select.value)); });
  byId("back")?.addEventListener("click", () => { blinker.stop(); blinker.step(-1); });
  byId("forth")?.addEventListener("click", () => { blinker.stop(); blinker.step(1); });
  byId("blink")?.addEventListener("click", blinker.toggle);
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
    const clipped = detail.rejected ? `, ${detail.rejected} ${detail.rejected === 1 ? "value" : "values"} clipped` : "";
    set("r-coverage", detail.coverage === null ? "–" : `${detail.coverage}${clipped}`);
    set("r-position", detail.position ? `${detail.position.ra} ${detail.position.dec}` : "–");
    byId("readout").dataset.pixel = `${detail.x},${detail.y}`;
  });
}

function joinOverlays(viewer) {
  const box = byId("overlays");
  const chosen = { bits: 0, coverage: false, rejected: false, star: true };
  const tick = (label, swatch, checked, act, disabled = false) => {
    const input = Object.assign(document.createElement("input"), { type: "checkbox", checked, disabled });
    input.addEventListener("change", () => { act(input.checked); viewer.setOverlays(chosen); });
    const colour = document.createElement("span");
    colour.className = `swatch ${swatch}`;
    const line = document.createElement("label");
    line.append(input, colour, label);
    return line;
  };
  let shown = "";
  viewer.addEventListener("image", () => {
    const { planes, flags, star, step } = viewer.image;
    const name = [planes.join(), Boolean(star), step === "stack"].join();
    if (name === shown) return;
    shown = name;
    const lines = [];
    if (planes.includes("dq")) {
      for (const { bit, meaning } of flags) {
        lines.push(tick(meaning, `b${bit}`, Boolean(chosen.bits & bit), (on) => { chosen.bits = on ? chosen.bits | bit : chosen.bits & ~bit; }));
      }
    }
    if (planes.includes("coverage")) lines.push(tick("frames at each pixel", "coverage", chosen.coverage, (on) => { chosen.coverage = on; }));
    if (planes.includes("rejected")) lines.push(tick("clipped values", "rejected", chosen.rejected, (on) => { chosen.rejected = on; }));
    else if (step === "stack") lines.push(tick("clipped values: this stack has no count of them (no NREJ)", "rejected", false, () => {}, true));
    if (star) lines.push(tick("alignment star", "star", chosen.star, (on) => { chosen.star = on; }));
    const none = Object.assign(document.createElement("p"), { className: "quiet small", textContent: "This image has none." });
    const focused = box.contains(document.activeElement);
    box.replaceChildren(box.querySelector("legend"), ...(lines.length ? lines : [none]));
    if (focused) viewer.canvas.focus({ preventScroll: true }); // else the keys of the viewer would be deaf
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
    canvas.height = 106 * ratio;
    const floor = canvas.height - 16 * ratio; // below it stand the values
    const filled = image.histogram.flatMap((count, bin) => (count ? [bin] : []));
    const codes = [viewer.display.low, viewer.display.high].map((value) => encode(image.coding, value));
    ends = [Math.min(filled[0] * 64, ...codes) - 400, Math.max((filled.at(-1) + 1) * 64, ...codes) + 400];
    const most = Math.log1p(Math.max(...image.histogram));
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--quiet");
    const scale = canvas.width / (ends[1] - ends[0]);
    for (const bin of filled) {
      const height = Math.log1p(image.histogram[bin]) / most * (floor - 4);
      context.fillRect((bin * 64 - ends[0]) * scale, floor - height, Math.max(1, 64 * scale), height);
    }
    context.font = `${11 * ratio}px Inter, system-ui, sans-serif`;
    for (const [align, share] of [["left", 0.01], ["center", 0.35], ["center", 0.65], ["right", 0.99]]) {
      context.textAlign = align;
      context.fillText(rounded(decode(image.coding, ends[0] + share * (ends[1] - ends[0]))), share * canvas.width, canvas.height - 3 * ratio);
      context.fillRect(share * canvas.width, floor, ratio, 3 * ratio);
    }
    context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--link");
    for (const value of [viewer.display.low, viewer.display.high]) context.fillRect(place(value) - ratio, 0, 2 * ratio, floor);
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
  viewer.addEventListener("view", () => { byId("zoom").textContent = `${Number((100 * viewer.view.scale).toPrecision(3))} %`; });
}

function joinKeys(viewer, blinker) {
  // Only while the viewer has the focus: a letter said to a speech input must do nothing elsewhere (WCAG 2.1.4).
  byId("view").closest(".viewer").addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event)) return;
    if (event.key === "n" || event.key === "p") { blinker.stop(); blinker.step(event.key === "n" ? 1 : -1); }
    else if (event.key === " " && !event.target.closest("button, a, summary, input") && byId("blink")) blinker.toggle();
    else if (["+", "-", "=", "0", "1"].includes(event.key)) viewer.key(event);
    else return;
    event.preventDefault();
  });
}
