// Helpers for the document.

export const byId = (id) => document.getElementById(id);

/** A new element. Attributes: `true` is set empty, `false` and null are left out, `on...` adds a listener. */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

/** Set the text of an element, and hide the element if there is none. */
export function say(target, text) {
  target.textContent = text ?? "";
  target.hidden = !text;
}
