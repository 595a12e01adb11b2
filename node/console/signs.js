// One shape per tone, so that no meaning hangs on colour alone: a disc with a tick for well, a
// triangle for attention, a square with a cross for bad, a ring for what is not known.

import { drawn, set } from "./dom.js";

const SHAPES = {
  ok: ["M16 3a13 13 0 1 0 0 26a13 13 0 1 0 0-26Z", "m10 16.5 4.2 4.2L22.5 12"],
  warn: ["M16 3.5 30 28H2Z", "M16 12.5v7M16 23.2v1.2"],
  bad: ["M9.5 2h13L30 9.5v13L22.5 30h-13L2 22.5v-13Z", "m11 11 10 10M21 11 11 21"],
  none: ["M16 3a13 13 0 1 0 0 26a13 13 0 1 0 0-26Z", "M16 9.5v8M16 21.7v1.2"],
};

/** Give an svg (view box 32 by 32) or g the shape of a tone. */
export function sign(node, tone) {
  if (node.childElementCount === 0)
    node.append(drawn("path", { class: "sign-body" }), drawn("path", { class: "sign-mark" }));
  const [body, mark] = SHAPES[tone] ?? SHAPES.none;
  set(node, "data-tone", tone);
  set(node.firstElementChild, "d", body);
  set(node.lastElementChild, "d", mark);
}

/** A small sign of its own, for rows and lists. */
export const smallSign = () =>
  drawn("svg", { class: "sign", viewBox: "0 0 32 32", width: 14, height: 14, "aria-hidden": "true" });
