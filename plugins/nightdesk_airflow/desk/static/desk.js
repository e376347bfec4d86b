// What every page does: links into Airflow from inside its frame, arrow keys, and an ended session.

export const inFrame = window.parent !== window;

/** Fetch something of the desk's or Airflow's; an ended session is said once, above the page. */
export async function ask(address, options = {}) {
  const answer = await fetch(address, { credentials: "same-origin", ...options });
  if (answer.status === 401) {
    document.getElementById("session").hidden = false;
    throw new Error("the session has ended");
  }
  return answer;
}

export async function askJson(address, options = {}) {
  const answer = await ask(address, options);
  const isJson = (answer.headers.get("content-type") || "").includes("json");
  const values = isJson ? await answer.json() : {};
  if (!answer.ok || !isJson) throw new Error(values.detail || `the server answered ${answer.status}`);
  return values;
}

export const query = (values) => new URLSearchParams(values).toString();

/** Values that the page brought along. */
export const pageData = () => JSON.parse(document.getElementById("data").textContent);

const TYPED_INTO = 'input:not([type="checkbox"]), select, textarea, [contenteditable]';

export const isTyping = (event) => event.target.closest(TYPED_INTO) !== null;

function logInAgain() {
  // From inside the frame the whole page is loaded anew, which leads to the login.
  (inFrame ? parent : window).location.reload();
}

document.addEventListener("click", (event) => {
  if (event.target.closest("#again, .again")) logInAgain();
  const link = event.target.closest("a.airflow");
  if (!link || !inFrame || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey) return;
  // The frame may not navigate its parent, but it may tell the parent's router that the address changed.
  event.preventDefault();
  parent.history.pushState({}, "", link.href);
  parent.dispatchEvent(new PopStateEvent("popstate", { state: {} }));
});

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || isTyping(event)) return;
  if (event.target.closest(".scroll")) return; // there the arrows move a wide table
  const rel = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  const link = rel && document.querySelector(`a[rel="${rel}"]`);
  if (link) { event.preventDefault(); link.click(); }
});
