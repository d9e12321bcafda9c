// The order pad: what is in the cart, who orders, and how the card behaves.

import { DEMO } from "./cart.js";
import { byId, element } from "./dom.js";
import { money } from "./format.js";

/** Payment tokens whose behaviour the simulated gateway knows. */
const CARDS = [
  ["tok_visa", "It pays", "The normal case: charged once, at once."],
  ["tok_declined", "It is declined", "The bank says no. Nothing is charged, and you are told."],
  ["tok_flaky", "It pays at the third attempt", "The bank breaks off twice: the first attempt, and the second one at once, both fail."],
  ["tok_timeout", "It pays, but the answer is lost", "Charged, and nobody hears of it. Asked again at the second attempt, the bank charges no second time."],
  ["tok_refund_fails", "It pays, and a refund fails", "Charged. Cancel the order: the money waits until somebody repairs the bank."],
  ["tok_broken", "It never works", "Given up after the last attempt. The order gets stuck, and nothing else does."],
];

const FIELDS = ["email", "phone"];

/** Who orders, and the cards. Before the menu has arrived, too; what was typed before this script came is kept. */
export function showDetails(cart) {
  byId("cards").append(...CARDS.map((card) => choice(cart, ...card)));
  for (const name of FIELDS) {
    const input = byId(name);
    if (input.value && cart.sentAt === null && input.value !== cart[name]) cart.set(name, input.value);
    input.addEventListener("input", () => cart.set(name, input.value));
  }
  cart.watch(() => {
    for (const name of FIELDS) if (byId(name).value !== cart[name]) byId(name).value = cart[name];
    byId("demo").hidden = !FIELDS.some((name) => cart[name] === DEMO[name]);
  });
}

/** What is in the cart. */
export function showCart(cart, dishes) {
  cart.watch(() => {
    showLines(cart, dishes);
    showTotal(totalOf(cart, dishes));
  });
}

function choice(cart, token, name, sentence) {
  const input = element("input", {
    type: "radio", name: "payment_token", id: token, value: token, "aria-describedby": `${token}-sentence`,
    onchange: () => cart.set("token", token),
  });
  cart.watch(() => { input.checked = cart.token === token; });
  return element("div", { class: "card" }, input,
    element("label", { for: token }, name),
    element("span", { class: "quiet", id: `${token}-sentence` }, sentence));
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
