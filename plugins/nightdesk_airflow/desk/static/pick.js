// The star picker: a star in one frame, looked for in the others, corrected by clicks, and saved.
import { askJson, pageData, query } from "./desk.js";
import { mount } from "./controls.js";
import { colourTable, decode } from "./viewer.js";

const brought = pageData();
const { group, images, rows, writable, seen: firstSeen } = brought;
const positions = new Map(Object.entries(rows));
const lines = [...document.querySelectorAll(".positions tbody tr")];
const save = document.getElementById("save"), saved = document.getElementById("saved");
let seen = firstSeen;

const { viewer, blinker } = await mount(brought);
viewer.setOverlays({ star: false });

function current() { return images[blinker.number]; }

function showMarks() {
  const found = positions.get(current().name);
  viewer.setMarks(found && found.x !== undefined ? [{ x: found.x, y: found.y, colour: found.found === false ? "#ffb020" : "#00e5a0" }] : []);
  for (const line of lines) line.classList.toggle("on", line.dataset.name === current().name);
}

function fill(line) {
  const found = positions.get(line.dataset.name);
  if (!found) return;
  line.querySelector(".x").textContent = (found.x + 1).toFixed(2);
  line.querySelector(".y").textContent = (found.y + 1).toFixed(2);
  line.querySelector(".use").checked = found.use !== false;
  line.querySelector(".note").textContent = found.reason || "";
  cutOut(line, found).catch(() => {});
}

/** Draw what is around a position from the viewer's tiles, the sky black and the star's top white, and a cross on it. */
async function cutOut(line, found) {
  const wanted = images[Number(line.dataset.index)];
  const facts = await viewer.describe(wanted);
  const canvas = line.querySelector("canvas"), context = canvas.getContext("2d");
  const reach = 10, pixels = context.createImageData(2 * reach, 2 * reach);
  const out = new Uint32Array(pixels.data.buffer);
  const codes = new Uint16Array(out.length);
  const x0 = Math.round(found.x) - reach, y0 = Math.round(found.y) - reach, tiles = new Map();
  for (let row = 0; row < 2 * reach; row++) {
    for (let column = 0; column < 2 * reach; column++) {
      const x = x0 + column, y = y0 + row;
      if (x < 0 || y < 0 || x >= facts.shape[1] || y >= facts.shape[0]) continue;
      const key = `${Math.floor(y / facts.tile)},${Math.floor(x / facts.tile)}`;
      if (!tiles.has(key)) tiles.set(key, await viewer.load(facts, "sci", 0, Math.floor(y / facts.tile), Math.floor(x / facts.tile)));
      codes[(2 * reach - 1 - row) * 2 * reach + column] = tiles.get(key)[(y % facts.tile) * facts.tile + (x % facts.tile)];
    }
  }
  if (positions.get(line.dataset.name) !== found) return; // it was corrected meanwhile
  const middle = codes.filter((code, place) => Math.hypot(place % (2 * reach) - reach, Math.floor(place / (2 * reach)) - reach) < 6);
  const top = decode(facts.coding, middle.reduce((most, code) => Math.max(most, code), 1));
  const table = colourTable(facts.coding, facts.coding.sky, Math.max(top, facts.coding.sky + 10 * facts.coding.noise), "linear", false);
  codes.forEach((code, place) => { out[place] = table[code]; });
  const small = new OffscreenCanvas(2 * reach, 2 * reach);
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  const scale = canvas.width / (2 * reach);
  const x = (found.x - x0 + 0.5) * scale, y = canvas.height - (found.y - y0 + 0.5) * scale;
  context.strokeStyle = found.found === false ? "#ffb020" : "#00e5a0";
  context.beginPath();
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) { context.moveTo(x + 4 * dx, y + 4 * dy); context.lineTo(x + 14 * dx, y + 14 * dy); }
  context.stroke();
}

function keep(name, found) {
  const line = lines.find((one) => one.dataset.name === name);
  const use = found.found !== false || Boolean(found.byHand);
  positions.set(name, { ...found, use });
  fill(line);
  save.disabled = !writable || ![...positions.values()].some((one) => one.use !== false);
}

let clicks = 0;
const latest = new Map(); // the click that a frame's position is of: what answers an earlier one is ignored

async function picked(point) {
  const reference = current().name, isFirst = blinker.number === 0, click = ++clicks;
  for (const { name } of isFirst ? images : [current()]) latest.set(name, click);
  saved.textContent = "Looking for the star …";
  const here = await askJson(`centroid?${query({ group, name: reference, x: point.x, y: point.y })}`);
  if (latest.get(reference) !== click) return;
  keep(reference, { ...here, byHand: true });
  showMarks();
  if (isFirst) {
    await Promise.all(images.slice(1).map(async ({ name }) => {
      const there = await askJson(`propose?${query({ group, reference, name, x: here.x, y: here.y })}`);
      if (latest.get(name) === click) keep(name, there);
    }));
    showMarks();
  }
  if (click !== clicks) return;
  const lost = [...positions.values()].filter((one) => one.found === false).length;
  saved.textContent = lost ? `${lost} of ${images.length} need a look.` : `Found in ${positions.size} of ${images.length} frames.`;
}

viewer.addEventListener("pick", ({ detail }) => picked(detail).catch((error) => { saved.textContent = error.message; }));
viewer.addEventListener("image", showMarks);
for (const line of lines) {
  fill(line);
  line.querySelector(".open").addEventListener("click", () => blinker.show(Number(line.dataset.index)));
  line.querySelector(".use").addEventListener("change", (event) => {
    const found = positions.get(line.dataset.name);
    if (found) found.use = event.target.checked;
    save.disabled = !writable || ![...positions.values()].some((one) => one.use !== false);
  });
}
if (positions.size) save.disabled = !writable;
showMarks();

save.addEventListener("click", async () => {
  save.disabled = true;
  const asked = images.filter(({ name }) => positions.has(name)).map(({ name }) => {
    const { x, y, use } = positions.get(name);
    return { name, x, y, use: use !== false };
  });
  asked.sort((one, other) => Number(other.use) - Number(one.use) || 0);
  try {
    const answer = await askJson("positions", {
      method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ group, rows: asked, seen }),
    });
    saved.textContent = `Saved as ${answer.file}. The group starts in about ${Math.ceil(answer.settle_seconds)} s.`;
    seen = answer.seen;
  } catch (error) {
    saved.textContent = error.message;
  }
  save.disabled = false;
});
