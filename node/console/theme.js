// Light or dark, as the reader chose, before anything is painted. A plain script on purpose: a
// module would run after the first paint, and a dark page would flash white.
"use strict";
(() => {
  const KEY = "quorumvault-theme";
  const CHOICES = ["system", "light", "dark"];

  const stored = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage is forbidden here: the choice lasts as long as the page
    }
  };

  const wear = (choice) => {
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
  };

  const first = CHOICES.includes(stored()) ? stored() : "system";
  wear(first);

  document.addEventListener("DOMContentLoaded", () => {
    for (const input of document.querySelectorAll("#theme input")) {
      input.checked = input.value === first;
      input.addEventListener("change", () => {
        wear(input.value);
        try {
          localStorage.setItem(KEY, input.value);
        } catch {
          // as above
        }
      });
    }
  });
})();
