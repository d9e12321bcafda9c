// Puts the shop page together.

import { readLinks } from "./api.js";
import { Cancelling } from "./cancelling.js";
import { Cart } from "./cart.js";
import { byId, ignorePointerForAMoment } from "./dom.js";
import { Earlier } from "./earlier.js";
import { loadMenu, showMenu } from "./menu.js";
import { Mine } from "./mine.js";
import { showCart, showDetails } from "./pad.js";
import { Placing } from "./placing.js";
import { Question } from "./question.js";
import { Rail } from "./rail.js";
import { Ticket } from "./ticket.js";

const cart = new Cart();
const mine = new Mine();
const question = new Question();
const earlier = new Earlier(mine, question);
const cancelling = new Cancelling(question, (orderId) => {
  rail.lookAgain(orderId);
  earlier.refresh();
});
const ticket = new Ticket({
  cancelling,
  onAgain: (items) => {
    cart.setItems(items);
    byId("pad-heading").focus();
  },
});
const rail = new Rail(mine, ticket);

/** The order that the address names: `#/orders/<id>`. Other addresses without a slash are places on the page. */
function orderInAddress() {
  return /^#\/orders\/([^/]+)$/.exec(location.hash)?.[1].toLowerCase() ?? null;
}

const isPlaceOnPage = () => location.hash !== "" && !location.hash.startsWith("#/");

function open() {
  const orderId = orderInAddress();
  rail.show(orderId);
  earlier.mark(orderId);
  earlier.refresh();
}

function goThere() {
  if (isPlaceOnPage()) return;
  open();
  if (location.hash) byId("headline").focus();
}

function placed(order, tookMs) {
  rail.placed(order, tookMs);
  ignorePointerForAMoment();
  if (orderInAddress() === order.order_id) goThere();
  else location.hash = `#/orders/${order.order_id}`;
}

function showControlRoom(url) {
  byId("control-room").href = url;
  byId("control-room").hidden = false;
  ticket.controlRoom = url;
  ticket.refresh();
}

window.addEventListener("hashchange", goThere);
open();
showDetails(cart);
readLinks().then(({ control_room_url: url }) => url && showControlRoom(url)).catch(() => {}); // the shop works without
const dishes = await loadMenu();
showMenu(dishes, cart);
showCart(cart, dishes);
new Placing(cart, dishes, placed);
if (isPlaceOnPage()) byId(location.hash.slice(1))?.scrollIntoView(); // the menu has moved it
