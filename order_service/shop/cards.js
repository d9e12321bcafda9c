// The choice of a card: each is a payment token whose behaviour the simulated gateway knows.

import { byId, element } from "./dom.js";

const CARDS = [
  ["tok_visa", "It pays", "The normal case: charged once, at once."],
  ["tok_declined", "It is declined", "The bank says no. Nothing is charged, and you are told."],
  ["tok_flaky", "It pays after two failures", "The bank breaks off twice, and is asked again."],
  ["tok_timeout", "It pays, but the answer is lost", "Charged, and nobody hears of it. Asked again, the bank charges no second time."],
  ["tok_broken", "It never works", "Given up after the last attempt. The order gets stuck, and nothing else does."],
];

export function showCards(cart) {
  const choices = CARDS.map(([token, name, sentence]) => choice(cart, token, name, sentence));
  byId("cards").append(...choices);
}

function choice(cart, token, name, sentence) {
  const input = element("input", {
    type: "radio", name: "payment_token", id: token, value: token, "aria-describedby": `${token}-sentence`,
    onchange: () => cart.set("token", token),
  });
  const update = () => { input.checked = cart.token === token; };
  cart.addEventListener("change", update);
  update();
  return element("div", { class: "card" }, input,
    element("label", { for: token }, name),
    element("span", { class: "quiet", id: `${token}-sentence` }, sentence));
}
