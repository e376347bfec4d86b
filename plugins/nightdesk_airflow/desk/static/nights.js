// The state of each run now, from Airflow's own API with this person's login: one question for all nights shown.
import { askJson, isTyping, query } from "./desk.js";

const PAUSE = 10_000;

// Nights whose files were deleted are made anew a few at each look; a person who types is left alone.
if (document.querySelector("main[data-gathering]")) {
  setTimeout(() => { if (!isTyping({ target: document.activeElement })) location.reload(); }, 1000);
}

async function refresh() {
  const links = [...document.querySelectorAll("a.run")];
  if (!links.length || document.hidden) return;
  const runs = links.map(({ dataset }) => [dataset.last, dataset.run]); // the last one may be of a person's own name
  const begins = [...new Set(runs.flatMap(([last, own]) => (last === own ? [] : [last]).concat(own.slice(0, 12))))];
  const states = new Map();
  for (let offset = 0; ; offset += 100) {
    const asked = { run_id_prefix_pattern: begins.join("|"), limit: 100, offset, order_by: "-run_after" };
    const answer = await askJson(`../api/v2/dags/reduce_group/dagRuns?${query(asked)}`);
    for (const run of answer.dag_runs) states.set(run.dag_run_id, run.state);
    if (answer.dag_runs.length < 100) break;
  }
  links.forEach((link, place) => {
    const run = runs[place].find((one) => states.has(one));
    link.textContent = states.get(run) || "no run";
    link.className = `airflow run mark ${states.get(run) || ""}`;
    if (run) link.href = `../dags/reduce_group/runs/${encodeURIComponent(run)}`;
  });
}

const quietly = () => refresh().catch(() => {});
quietly();
setInterval(quietly, PAUSE);
document.addEventListener("visibilitychange", quietly);
