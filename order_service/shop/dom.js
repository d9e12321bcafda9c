// Helpers for the document.

import { clock, fullTime } from "./format.js";

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
  if (target.textContent !== (text ?? "")) target.textContent = text ?? "";
  target.hidden = !text;
}

/** A time in the viewer's zone, or words in place of it; the tooltip has the full time. */
export function time(timestamp, words = clock(timestamp), attributes = {}) {
  return element("time", { datetime: timestamp, title: fullTime(timestamp), ...attributes }, words);
}

/** What appears or goes moves the page: the second click of a double click must not hit another element. */
export function ignorePointerForAMoment() {
  document.body.classList.add("moving");
  setTimeout(() => document.body.classList.remove("moving"), 500);
}
