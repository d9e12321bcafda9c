// The button that places the order, and the messages about what goes wrong.

import { NoAnswer, placeOrder } from "./api.js";
import { byId } from "./dom.js";
import { clearErrors, showErrors } from "./errors.js";
import { money } from "./format.js";
import { totalOf } from "./pad.js";

const RESUME_WITHIN_MS = 10 * 60_000;
const DOUBLE_CLICK_MS = 1000;
const WAITS_SECONDS = [1, 2, 4, 8, 15]; // between the tries
const LOCKED_MEANWHILE = [".menu", "#cart-lines", "#details", "#cards"];

/** The customer has pressed "Stop trying". */
class Stopped extends Error {}

export class Placing {
  #isSending = false;
  #placedAt = -Infinity;

  /** `onPlaced(order, tookMs)` is called once for each accepted order. */
  constructor(cart, dishes, onPlaced) {
    this.cart = cart;
    this.dishes = dishes;
    this.onPlaced = onPlaced;
    byId("order-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#place(() => performance.now() - event.timeStamp);
    });
    cart.watch(() => this.#showButton());
    this.#resume();
  }

  /** The page was closed or reloaded before there was an answer: ask for it, with the same key. */
  #resume() {
    const { sentAt } = this.cart;
    if (sentAt === null || this.cart.isEmpty) return;
    if (Date.now() - sentAt < RESUME_WITHIN_MS) this.#place(() => Date.now() - sentAt);
    else this.#say("This order was sent before, and its answer never came. Sent again as it is, it stays one order.");
  }

  async #place(elapsedMs) {
    if (this.#isSending || Date.now() - this.#placedAt < DOUBLE_CLICK_MS) return;
    clearErrors();
    this.#say(this.cart.isEmpty ? "There is nothing on your order yet. Add a dish from the menu." : "");
    if (this.cart.isEmpty) return;
    const { order } = this.cart;
    const key = this.cart.send();
    try {
      const answer = await this.#send(order, key);
      this.#accepted(answer, order, key, elapsedMs());
    } catch (error) {
      this.#failed(error, order);
    }
  }

  async #send(order, key) {
    this.#isSending = true;
    this.#showButton();
    try {
      return await sendPatiently(order, key, (error, seconds) => this.#sayTrying(error, seconds));
    } finally {
      this.#isSending = false;
      this.#showButton();
    }
  }

  #accepted(answer, order, key, tookMs) {
    this.#say("");
    this.#placedAt = Date.now();
    this.cart.accepted(key);
    const items = order.items.map((item) => {
      const dish = this.dishes.get(item.sku);
      return { ...item, name: dish?.name ?? item.sku, unit_price: dish?.price };
    });
    this.onPlaced({ ...answer, items, wants_sms: "customer_phone" in order }, tookMs);
  }

  #failed(error, order) {
    if (error instanceof Stopped || error instanceof NoAnswer) {
      const why = error instanceof Stopped ? "Stopped." : "The order service still does not answer.";
      this.#say(`${why} Your order is kept here. It may have arrived all the same: sent again as it is, it stays one ` +
        "order. Changed, it is a new one.");
      return;
    }
    this.cart.refused();
    const areShown = showErrors(error.fields ?? [], order);
    this.#say(areShown ? "Please look at what is marked above." : refusal(error));
  }

  #sayTrying(error, seconds) {
    const why = error instanceof NoAnswer ? "The order service does not answer." : refusal(error);
    const when = seconds === 1 ? "in a second" : `in ${seconds} seconds`;
    this.#say(`${why} Your order is kept, and is sent again ${when}. It cannot be placed twice.`, true);
  }

  #say(words, isTrying = false) {
    byId("trouble").hidden = !words;
    byId("trouble-words").textContent = words;
    byId("trouble-choices").hidden = !isTrying;
  }

  #showButton() {
    const isSending = this.#isSending;
    const total = totalOf(this.cart, this.dishes);
    const words = total ? `Place order for ${money(total)}` : "Place order";
    byId("place").textContent = isSending ? "Placing the order …" : words;
    byId("place").setAttribute("aria-disabled", isSending || this.cart.isEmpty);
    for (const selector of LOCKED_MEANWHILE) document.querySelector(selector).inert = isSending;
  }
}

/** The answer, after six tries at most. Each has the same key, so it is one order. `onTrouble(error, seconds)` is called
 * before each wait. Throws `Refused`, `NoAnswer` after the last try, or `Stopped`. */
async function sendPatiently(order, key, onTrouble) {
  for (const wait of WAITS_SECONDS) {
    try {
      return await placeOrder(order, key);
    } catch (error) {
      if (!(error instanceof NoAnswer || error.mayPass)) throw error;
      const seconds = Math.max(wait, error.retryAfterSeconds ?? 0);
      onTrouble(error, seconds);
      await pause(seconds);
    }
  }
  return placeOrder(order, key);
}

/** The buttons "Try now" and "Stop trying" end it. */
function pause(seconds) {
  return new Promise((resolve, reject) => {
    setTimeout(resolve, seconds * 1000);
    byId("try-now").onclick = resolve;
    byId("stop-trying").onclick = () => reject(new Stopped());
  });
}

function refusal(error) {
  switch (error.status) {
    case undefined: return `This page has failed: ${error.message}.`;
    case 400: case 422: return `Please look at this again: ${error.message}.`;
    case 409: return `That is not possible any more: ${error.message}.`;
    case 413: return "This order is too large to be taken at once. Please make two of it.";
    case 429: return "Too many orders arrive at the moment.";
    case 503: return "The shop cannot take orders for a moment. Nothing was ordered.";
    default: return `The order was not taken: ${error.message}.`;
  }
}
