// The button that places the order, and the messages about what goes wrong.

import { NoAnswer, placeOrder, silence } from "./api.js";
import { byId } from "./dom.js";
import { clearErrors, showErrors } from "./errors.js";
import { money } from "./format.js";
import { totalOf } from "./pad.js";

const RESUME_WITHIN_MS = 10 * 60_000;
const DOUBLE_CLICK_MS = 500;
const LONG_MS = 2000; // from then on a first try that has no answer yet can be stopped
const WAITS_SECONDS = [1, 2, 4, 8, 15]; // between the tries
const LOCKED_MEANWHILE = [".menu", "#cart-lines", "#details", "#cards"];
const MAY_HAVE_ARRIVED = "It may have arrived all the same: sent again as it is, it stays one order. Changed, it is a new one.";

/** The customer has pressed "Stop trying", here or in another tab; or another tab has been answered. */
class Stopped extends Error {}

export class Placing {
  #sending = null; // an AbortController
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
    byId("stop-trying").addEventListener("click", () => cart.stop());
    cart.watch(() => {
      this.#showButton();
      if (this.#sending && !cart.maySend(this.#sending.key)) this.#sending.abort();
    });
    byId("place").disabled = false;
    this.#resume();
  }

  /** The page was closed or reloaded before there was an answer: ask for it, with the same key. */
  #resume() {
    const { sentAt, isStopped } = this.cart;
    if (sentAt === null || this.cart.isEmpty) return;
    if (!isStopped && Date.now() - sentAt < RESUME_WITHIN_MS) this.#place(() => Date.now() - sentAt);
    else this.#say(`This order was sent before, and its answer never came. ${MAY_HAVE_ARRIVED}`);
  }

  async #place(elapsedMs) {
    if (this.#sending || Date.now() - this.#placedAt < DOUBLE_CLICK_MS) return;
    clearErrors();
    this.#say(this.cart.isEmpty ? "There is nothing on your order yet. Add a dish from the menu." : "");
    if (this.cart.isEmpty) return;
    const { order } = this.cart;
    const key = this.cart.send();
    const began = Date.now();
    try {
      const answer = await this.#send(order, key, began);
      this.#accepted(answer, order, key, elapsedMs());
    } catch (error) {
      this.#failed(error, order, began);
    }
  }

  async #send(order, key, began) {
    this.#sending = Object.assign(new AbortController(), { key });
    this.#showButton();
    const long = setTimeout(() => this.#say("There is no answer yet. Your order is kept.", true), LONG_MS);
    try {
      return await this.#sendPatiently(order, this.#sending, (error, seconds) => {
        clearTimeout(long);
        this.#sayTrying(error, began, seconds);
      });
    } finally {
      clearTimeout(long);
      this.#sending = null;
      this.#showButton();
    }
  }

  /** The answer, after six tries at most. Each has the same key, so it is one order. `onTrouble(error, seconds)` is called
   * before each wait. Throws `Refused`, `NoAnswer` after the last try, or `Stopped`. */
  async #sendPatiently(order, sending, onTrouble) {
    for (const wait of [...WAITS_SECONDS, null]) {
      if (!this.cart.maySend(sending.key)) throw new Stopped();
      try {
        return await placeOrder(order, sending.key, sending.signal);
      } catch (error) {
        if (sending.signal.aborted) throw new Stopped();
        if (wait === null || !(error instanceof NoAnswer || error.mayPass)) throw error;
        const seconds = Math.max(wait, error.retryAfterSeconds ?? 0);
        onTrouble(error, seconds);
        await pause(seconds, sending.signal);
      }
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

  #failed(error, order, began) {
    if (error instanceof Stopped) {
      this.#say(this.cart.isStopped ? `Stopped. Your order is kept here. ${MAY_HAVE_ARRIVED}` : this.#elsewhere);
    } else if (error instanceof NoAnswer) {
      this.cart.stop();
      this.#say(`${silence(began)} Your order is kept here, and is sent again when you press the button. ${MAY_HAVE_ARRIVED}`);
    } else {
      this.cart.refused();
      const areShown = showErrors(error.fields ?? [], order);
      this.#say(areShown ? "Please look at what is marked." : refusal(error));
    }
  }

  /** What another tab has done meanwhile. */
  get #elsewhere() {
    return this.cart.isEmpty ? "" : "Your order was changed in another tab. Place it again when it is as you want it.";
  }

  #sayTrying(error, began, seconds) {
    const why = error instanceof NoAnswer ? silence(began) : refusal(error);
    const when = seconds === 1 ? "in a second" : `in ${seconds} seconds`;
    this.#say(`${why} Your order is kept, and is sent again ${when}. It cannot be placed twice.`, true);
  }

  #say(words, isTrying = false) {
    byId("trouble").hidden = !words;
    byId("trouble-words").textContent = words;
    byId("trouble-choices").hidden = !isTrying;
  }

  #showButton() {
    const isSending = this.#sending !== null;
    const total = totalOf(this.cart, this.dishes);
    const words = total ? `Place order for ${money(total)}` : "Place order";
    byId("place").textContent = isSending ? "Placing the order …" : words;
    byId("place").setAttribute("aria-disabled", isSending || this.cart.isEmpty);
    for (const selector of LOCKED_MEANWHILE) document.querySelector(selector).inert = isSending;
  }
}

/** The button "Try now" ends it, and so does the browser when it is online again, or the signal. */
function pause(seconds, signal) {
  return new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000);
    byId("try-now").onclick = resolve;
    window.addEventListener("online", resolve, { once: true });
    signal.addEventListener("abort", resolve, { once: true });
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
