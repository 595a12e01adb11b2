// The only way in which this page writes: text as text, nodes kept and not made anew, so that a
// poll moves nothing and no word of a foreign node is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** The element of this id; a page without it is a bug of ours. */
export function byId(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/** Set a node's text, only if it differs: an unchanged one keeps selection and layout. */
export function put(node, text) {
  const value = String(text);
  if (node.textContent !== value) node.textContent = value;
}

/** Set an attribute, only if it differs; null removes it. */
export function set(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, String(value));
  }
}

/** Several attributes. */
export function setAll(node, attributes) {
  for (const [name, value] of Object.entries(attributes)) set(node, name, value);
}

function made(node, attributes, children) {
  setAll(node, attributes);
  node.append(...children);
  return node;
}

/** A new HTML element; children are nodes or text. */
export const element = (name, attributes = {}, ...children) =>
  made(document.createElement(name), attributes, children);

/** A new SVG element. */
export const drawn = (name, attributes = {}, ...children) =>
  made(document.createElementNS(SVG, name), attributes, children);

/**
 * Make the children of `parent` follow `items`, in their order: one child per key, made once,
 * updated after. Nothing is touched that is in its place.
 */
export function follow(parent, items, keyOf, make, update) {
  const kept = (parent.followed ??= new Map());
  const wanted = new Set(items.map((item) => String(keyOf(item))));
  for (const [key, child] of kept) {
    if (!wanted.has(key)) {
      child.remove();
      kept.delete(key);
    }
  }
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let child = kept.get(key);
    if (child === undefined) {
      child = make(item);
      kept.set(key, child);
    }
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

/** Call `draw` now and whenever the width of `box` changes; it gets the width in pixels. */
export function onWidth(box, draw) {
  let last = 0;
  new ResizeObserver(() => {
    const width = Math.floor(box.clientWidth);
    if (width > 0 && width !== last) {
      last = width;
      draw(width);
    }
  }).observe(box);
}
