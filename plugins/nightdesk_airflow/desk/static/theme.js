// Light or dark, as Airflow's own pages: its choice is in localStorage, what it made of it on its <html>.
"use strict";
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const parentRoot = () => {
    try { return parent !== window ? parent.document.documentElement : null; } catch { return null; }
  };
  const isDark = () => {
    const root = parentRoot();
    if (root && (root.classList.contains("dark") || root.classList.contains("light"))) return root.classList.contains("dark");
    const chosen = (localStorage.getItem("theme") || "system").replaceAll('"', "");
    return chosen === "dark" || (chosen !== "light" && system.matches);
  };
  const apply = () => {
    const dark = isDark();
    if (document.documentElement.classList.contains("dark") === dark && document.documentElement.dataset.theme) return;
    document.documentElement.classList.toggle("dark", dark);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    dispatchEvent(new CustomEvent("themechange"));
  };
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
  const root = parentRoot();
  if (root) new MutationObserver(apply).observe(root, { attributes: true, attributeFilter: ["class"] });
})();
