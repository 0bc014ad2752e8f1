// Builds elements from text and other elements. Nothing here parses HTML: text from files, models and servers stays text.

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/**
 * An element: attributes by name, `on…` as listeners, children as elements or text.
 * @param {string} tag a tag; `svg:path` makes one of SVG.
 */
export function make(tag, attributes = {}, ...children) {
  const svg = tag.startsWith("svg:");
  const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** Announce something to screen readers. */
export function announce(text) {
  byId("announce").textContent = text;
}
