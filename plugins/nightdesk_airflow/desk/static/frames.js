// The frames' figures over the night; a click on a point opens its frame.
import { pageData, query } from "./desk.js";

const { group, frames } = pageData();
const place = document.getElementById("plots");
// Each axis spans at least so much (the sky a twentieth of itself), or a hundredth of an electron would look like a trend.
const PLOTS = [
  ["FWHM", "px", ["fwhm"], () => 2],
  ["Sky", "e⁻", ["sky"], (value) => Math.max(5, Math.abs(value) / 20)],
  ["Transparency", "", ["transparency"], () => 0.2],
  ["Shift", "px", ["dx", "dy"], () => 4],
  ["Airmass", "", ["airmass"], () => 0.1],
];
const span = (least) => (plot, low, high) => {
  const pad = Math.max(0.1 * (high - low), (least(high) - (high - low)) / 2);
  return [low - pad, high + pad];
};
const COLOURS = ["--link", "--orange"];
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const clock = (seconds) => new Date(seconds * 1000).toISOString().slice(11, 19).replace(/:00$/, "");
let drawn = [];

function draw() {
  for (const plot of drawn) plot.destroy();
  place.replaceChildren();
  const sorted = [...frames].sort((one, other) => one.time - other.time);
  drawn = PLOTS.filter(([, , keys]) => sorted.some((frame) => keys.some((key) => frame[key] !== null))).map(([title, unit, keys, least]) => {
    const figure = document.createElement("figure");
    const caption = Object.assign(document.createElement("figcaption"), { textContent: unit ? `${title} (${unit})` : title });
    figure.append(caption);
    place.append(figure);
    const axis = { stroke: colour("--quiet"), grid: { stroke: colour("--line"), width: 0.5 }, ticks: { stroke: colour("--line") } };
    let nearest = null;
    const plot = new uPlot({
      width: Math.max(280, figure.clientWidth),
      height: 190,
      legend: { show: keys.length > 1 },
      cursor: { focus: { prox: 30 }, points: { size: 9 } },
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      axes: [{ ...axis, values: (self, splits) => splits.map(clock), space: 64 }, { ...axis, size: 58 }],
      scales: { y: { range: span(least) } },
      series: [
        { label: "UTC", value: (self, seconds) => (seconds === null ? "–" : clock(seconds)) },
        ...keys.map((key, number) => ({ label: key, stroke: colour(COLOURS[number]), width: 1.5, points: { show: true, size: 7, fill: colour(COLOURS[number]) } })),
      ],
      hooks: { setCursor: [(self) => { nearest = self.cursor.idx; }] },
    }, [sorted.map((frame) => frame.time), ...keys.map((key) => sorted.map((frame) => frame[key]))], figure);
    plot.over.addEventListener("click", () => {
      if (nearest !== null && sorted[nearest]) location.href = `frame?${query({ group, name: sorted[nearest].name })}`;
    });
    return plot;
  });
}

if (place) {
  draw();
  addEventListener("themechange", draw);
  addEventListener("resize", draw);
}
