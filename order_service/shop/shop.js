// The shop page, put together: the only module that knows every part of it.

import { Cart } from "./cart.js";
import { byId } from "./dom.js";
import { Earlier } from "./earlier.js";
import { loadMenu, showMenu } from "./menu.js";
import { Pad } from "./pad.js";
import { Rail } from "./rail.js";

const cart = new Cart();
const earlier = new Earlier();
const rail = new Rail({
  onSettled: () => earlier.refresh(),
  onAgain: (items) => {
    cart.setItems(items);
    byId("pad-heading").focus();
  },
});

/** The order that the address names: `#/orders/<id>`. Other addresses without a slash are places on the page. */
function orderInAddress() {
  return /^#\/orders\/([^/]+)$/.exec(location.hash)?.[1] ?? null;
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

function placed(answer, items, tookMs) {
  rail.placed(answer, items, tookMs);
  ignorePointerForAMoment();
  if (orderInAddress() === answer.order_id) openAndGoThere();
  else location.hash = `#/orders/${answer.order_id}`;
  earlier.refresh();
}

/** The page moves when a ticket appears: the second half of a double click must not land on something else. */
function ignorePointerForAMoment() {
  document.body.classList.add("moving");
  setTimeout(() => document.body.classList.remove("moving"), 500);
}

window.addEventListener("hashchange", openAndGoThere);
open();
earlier.start();
earlier.refresh();
const dishes = await loadMenu();
showMenu(dishes, cart);
new Pad(cart, dishes, placed).start();
