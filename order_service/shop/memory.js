// Values stored in the browser between visits. Where storage is full or forbidden they last as long as the page.

const unstored = new Map();

/** The value of this name; `otherwise` if there is none, or none of that form: another version may have left it. */
export function recall(name, otherwise) {
  if (unstored.has(name)) return unstored.get(name);
  try {
    const value = JSON.parse(localStorage.getItem(name));
    const isOfThatForm = value && typeof value === typeof otherwise && Array.isArray(value) === Array.isArray(otherwise);
    return isOfThatForm ? value : otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(name, JSON.stringify(value));
    unstored.delete(name);
  } catch {
    unstored.set(name, value);
  }
}

export function forget(name) {
  unstored.delete(name);
  try {
    localStorage.removeItem(name);
  } catch {
    // It was never stored.
  }
}
