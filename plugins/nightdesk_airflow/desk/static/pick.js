// The star picker: a star in one frame, looked for in the others, corrected by clicks, and saved.
import { askJson, pageData, query } from "./desk.js";
import { mount } from "./controls.js";

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

/** Draw what is around a position, from the same tiles as the viewer's. */
async function cutOut(line, found) {
  const wanted = images[Number(line.dataset.index)];
  const facts = await viewer.describe(wanted);
  const canvas = line.querySelector("canvas"), context = canvas.getContext("2d");
  const reach = 16, pixels = context.createImageData(2 * reach, 2 * reach);
  const out = new Uint32Array(pixels.data.buffer);
  const { colourTable } = await import("./viewer.js");
  const [low, high] = Object.values(facts.limits)[0];
  const table = colourTable(facts.coding, low, high, "asinh", false);
  const x0 = Math.round(found.x) - reach, y0 = Math.round(found.y) - reach, tiles = new Map();
  for (let row = 0; row < 2 * reach; row++) {
    for (let column = 0; column < 2 * reach; column++) {
      const x = x0 + column, y = y0 + row;
      if (x < 0 || y < 0 || x >= facts.shape[1] || y >= facts.shape[0]) continue;
      const key = `${Math.floor(y / facts.tile)},${Math.floor(x / facts.tile)}`;
      if (!tiles.has(key)) tiles.set(key, await viewer.load(facts, "sci", 0, Math.floor(y / facts.tile), Math.floor(x / facts.tile)));
      out[(2 * reach - 1 - row) * 2 * reach + column] = table[tiles.get(key)[(y % facts.tile) * facts.tile + (x % facts.tile)]];
    }
  }
  const small = new OffscreenCanvas(2 * reach, 2 * reach);
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}

function keep(name, found) {
  const line = lines.find((one) => one.dataset.name === name);
  const use = found.found !== false || Boolean(found.byHand);
  positions.set(name, { ...found, use });
  fill(line);
  save.disabled = !writable || ![...positions.values()].some((one) => one.use !== false);
}

async function picked(point) {
  const reference = current().name, isFirst = blinker.number === 0;
  saved.textContent = "Looking for the star …";
  const here = await askJson(`centroid?${query({ group, name: reference, x: point.x, y: point.y })}`);
  keep(reference, { ...here, byHand: true });
  showMarks();
  if (isFirst) {
    await Promise.all(images.slice(1).map(async ({ name }) => {
      keep(name, await askJson(`propose?${query({ group, reference, name, x: here.x, y: here.y })}`));
    }));
  }
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
