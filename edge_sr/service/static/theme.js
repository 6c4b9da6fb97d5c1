// Light, dark, or as the system has it. The choice is remembered on this computer; nothing else is.

import { byId } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const KEY = "edge-sr-theme";

export function startTheme() {
  apply(remembered());
  byId("theme").addEventListener("click", () => {
    const next = THEMES[(THEMES.indexOf(remembered()) + 1) % THEMES.length];
    try {
      localStorage.setItem(KEY, next);
    } catch { /* a browser that keeps nothing still changes */ }
    apply(next);
  });
}

function remembered() {
  const shown = document.documentElement.dataset.theme;
  try {
    const kept = localStorage.getItem(KEY);
    return THEMES.includes(kept) ? kept : "system";
  } catch {
    return shown ?? "system";
  }
}

function apply(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
}
