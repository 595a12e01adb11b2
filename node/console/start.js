// When a part of this page does not arrive (the reader's network changed just then, the node went
// down), load the page again. A plain script, and the first: modules cannot see their own loss.
"use strict";
(() => {
  const AGAIN_MS = 3000;
  let isDue = false;

  const isPart = (target) => target instanceof HTMLScriptElement || target instanceof HTMLLinkElement;

  window.addEventListener(
    "error",
    ({ target }) => {
      if (!isPart(target) || isDue) return;
      isDue = true;
      setTimeout(() => location.reload(), AGAIN_MS);
    },
    true, // such errors do not bubble
  );
})();
