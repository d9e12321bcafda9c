// The order pad: what is in the cart, and who orders.

import { showCards } from "./cards.js";
import { byId, element } from "./dom.js";
import { money } from "./format.js";

export function showPad(cart, dishes) {
  showCards(cart);
  for (const name of ["email", "phone"]) {
    byId(name).addEventListener("input", (event) => cart.set(name, event.target.value));
  }
  const update = () => {
    showLines(cart, dishes);
    showTotal(totalOf(cart, dishes));
    for (const name of ["email", "phone"]) if (byId(name).value !== cart[name]) byId(name).value = cart[name];
  };
  cart.addEventListener("change", update);
  update();
}

/** What the cart costs at the menu's prices, or null. Only the total that the service computes counts. */
export function totalOf(cart, dishes) {
  const known = cart.lines.filter(([sku]) => dishes.has(sku));
  if (!known.length) return null;
  const amount_minor = known.reduce((sum, [sku, quantity]) => sum + dishes.get(sku).price.amount_minor * quantity, 0);
  return { amount_minor, currency: dishes.get(known[0][0]).price.currency };
}

function showLines(cart, dishes) {
  byId("cart-empty").hidden = !cart.isEmpty;
  const lines = cart.lines.map(([sku, quantity]) => line(cart, sku, dishes.get(sku), quantity));
  byId("cart-lines").replaceChildren(...lines);
}

function line(cart, sku, dish, quantity) {
  const price = dish && money({ ...dish.price, amount_minor: dish.price.amount_minor * quantity });
  const name = dish?.name ?? `${sku} (no longer on the menu)`;
  const remove = () => {
    cart.setQuantity(sku, 0);
    byId("pad-heading").focus(); // the button that had it is gone
  };
  return element("li", {},
    element("span", {}, `${quantity} × ${name}`),
    element("span", { class: "price" }, price ?? ""),
    element("button", { type: "button", class: "remove", "aria-label": `Remove ${name}`, onclick: remove }, "×"));
}

function showTotal(total) {
  byId("cart-total").hidden = !total;
  byId("total").textContent = total ? money(total) : "";
}
