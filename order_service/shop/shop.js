// Puts the shop page together.

import { Cart } from "./cart.js";
import { byId } from "./dom.js";
import { Earlier } from "./earlier.js";
import { loadMenu, showMenu } from "./menu.js";
import { showPad } from "./pad.js";
import { Placing } from "./placing.js";
import { Rail } from "./rail.js";

const cart = new Cart();
const earlier = new Earlier();
const rail = new Rail({
  onOver: () => earlier.refresh(),
  onAgain: (items) => {
    cart.setItems(items);
    byId("pad-heading").focus();
  },
});

/** The order that the address names: `#/orders/<id>`. Other addresses without a slash are places on the page. */
function orderInAddress() {
  return /^#\/orders\/([^/]+)$/.exec(location.hash)?.[1].toLowerCase() ?? null;
}

function open() {
  if (location.hash && !location.hash.startsWith("#/")) return;
  const orderId = orderInAddress();
  rail.show(orderId);
  earlier.mark(orderId);
}

function openAndGoThere() {
  open();
  if (location.hash.startsWith("#/")) byId("headline").focus();
}

function placed(order, tookMs) {
  rail.placed(order, tookMs);
  ignorePointerForAMoment();
  if (orderInAddress() === order.order_id) openAndGoThere();
  else location.hash = `#/orders/${order.order_id}`;
  earlier.refresh();
}

/** The page moves when a ticket appears: the second click of a double click must not hit another element. */
function ignorePointerForAMoment() {
  document.body.classList.add("moving");
  setTimeout(() => document.body.classList.remove("moving"), 500);
}

window.addEventListener("hashchange", openAndGoThere);
open();
const dishes = await loadMenu();
showMenu(dishes, cart);
showPad(cart, dishes);
new Placing(cart, dishes, placed);
