// Shows the errors that the service reports beside their fields.

import { byId } from "./dom.js";

const FIELDS = { customer_email: "email", customer_phone: "phone", payment_token: "card" };

export function clearErrors() {
  document.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
  document.querySelectorAll(".field-error").forEach((note) => { note.textContent = ""; });
}

/** Show each error at its field, and focus the first. Returns whether every error has a field on the page. */
export function showErrors(errors, order) {
  const places = errors.map(({ field, detail }) => ({ detail, ...placeOf(field, order) }));
  for (const { input, note, detail } of places) {
    input?.setAttribute("aria-invalid", "true");
    if (note) note.textContent = `${detail[0].toUpperCase()}${detail.slice(1)}.`;
  }
  places.find(({ input }) => input)?.input.focus();
  return places.length > 0 && places.every(({ note }) => note);
}

/** `items[1].quantity` is about the dish on the order's second line. */
function placeOf(field, order) {
  const index = /^items\[(\d+)\]/.exec(field)?.[1];
  const sku = order.items[index]?.sku;
  return sku ? { input: byId(`quantity-${sku}`), note: byId(`error-${sku}`) }
    : { input: byId(FIELDS[field]), note: byId(`${FIELDS[field]}-error`) };
}
