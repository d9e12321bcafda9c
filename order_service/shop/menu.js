// The menu: each dish with its price and the quantity in the cart.

import { readMenu, silence } from "./api.js";
import { MAX_QUANTITY } from "./cart.js";
import { byId, element, say } from "./dom.js";
import { money } from "./format.js";

const LONGEST_WAIT_MS = 5000;

/** The dishes by sku. Tries again until they can be read, and shows that. */
export async function loadMenu() {
  const began = Date.now();
  for (let wait = 500; ; wait = Math.min(LONGEST_WAIT_MS, wait * 2)) {
    try {
      const dishes = await readMenu();
      byId("menu-note").remove();
      return new Map(dishes.map((dish) => [dish.sku, dish]));
    } catch {
      say(byId("menu-note"), `${silence(began)} The menu is asked for again every few seconds; what you type is kept.`);
      await new Promise((resolve) => setTimeout(resolve, wait));
    }
  }
}

export function showMenu(dishes, cart) {
  byId("menu").replaceChildren(...[...dishes.values()].map((dish) => row(dish, cart)));
}

function row(dish, cart) {
  const note = element("span", { class: "field-error", id: `error-${dish.sku}`, "aria-live": "polite" });
  const choose = (quantity) => {
    if (quantity === cart.quantity(dish.sku)) return; // Enter is followed by a change
    note.textContent = quantity > MAX_QUANTITY ? `${MAX_QUANTITY} of one dish are the most that an order can have.` : "";
    cart.setQuantity(dish.sku, quantity);
  };
  const count = element("input", {
    type: "number", min: 0, max: MAX_QUANTITY, step: 1, inputmode: "numeric", id: `quantity-${dish.sku}`,
    "aria-label": `How many ${dish.name}`, "aria-describedby": `error-${dish.sku}`,
    onchange: () => choose(count.valueAsNumber),
    onkeydown: (event) => event.key === "Enter" && choose(count.valueAsNumber),
    onfocus: () => count.select(),
  });
  const step = (by, name, sign) => element("button", {
    type: "button", "aria-label": `${name} ${dish.name}`,
    onclick: () => choose(cart.quantity(dish.sku) + by),
  }, sign);
  const fewer = step(-1, "One less", "−");
  const made = element("li", { class: "dish" },
    element("span", { class: "dish-name" }, dish.name),
    element("span", { class: "price" }, money(dish.price)),
    element("span", { class: "stepper" }, fewer, count, step(1, "One more", "+")),
    note);
  cart.watch(() => {
    count.value = cart.quantity(dish.sku);
    made.classList.toggle("chosen", cart.quantity(dish.sku) > 0);
    fewer.setAttribute("aria-disabled", cart.quantity(dish.sku) === 0);
  });
  return made;
}
