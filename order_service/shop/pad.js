// The order pad: what is in the cart, who orders, and the button that sends it.

import { NoAnswer } from "./api.js";
import { showCards } from "./cards.js";
import { byId, element, say } from "./dom.js";
import { money } from "./format.js";
import { Sending, Stopped } from "./sending.js";

const RESUME_WITHIN_MS = 10 * 60_000;
const DOUBLE_CLICK_MS = 1000;
const LOCKED_MEANWHILE = [".menu", "#cart-lines", "#details", "#cards"];

export class Pad {
  #sending = null;
  #placedAt = -Infinity;

  /** `onPlaced(answer, items, tookMs)` is called once for each order that was taken. */
  constructor(cart, dishes, onPlaced) {
    this.cart = cart;
    this.dishes = dishes;
    this.onPlaced = onPlaced;
  }

  start() {
    showCards(this.cart);
    for (const name of ["email", "phone"]) {
      byId(name).addEventListener("input", (event) => this.cart.set(name, event.target.value));
    }
    byId("order-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#place(performance.timeOrigin + event.timeStamp);
    });
    byId("try-now").addEventListener("click", () => this.#sending?.tryNow());
    byId("stop-trying").addEventListener("click", () => this.#sending?.stop());
    this.cart.addEventListener("change", () => this.#update());
    this.#update();
    this.#resume();
  }

  /** The page was closed or reloaded before there was an answer: ask for it, with the same key. */
  #resume() {
    const { sentAt } = this.cart;
    if (sentAt === null || this.cart.isEmpty) return;
    if (Date.now() - sentAt < RESUME_WITHIN_MS) this.#place(sentAt);
    else this.#complain("This order was sent before, and its answer never came. Sent again, it is still one order.");
  }

  async #place(clickedAt) {
    if (this.#sending || Date.now() - this.#placedAt < DOUBLE_CLICK_MS) return;
    this.#showErrors([]);
    if (this.cart.isEmpty) return this.#complain("There is nothing on your order yet. Add a dish from the menu.");
    this.#complain("");
    this.#sending = new Sending((error, seconds) => this.#sayTrying(error, seconds));
    const { order } = this.cart;
    const key = this.cart.send();
    try {
      const answer = await this.#sending.send(order, key);
      const items = order.items.map((item) => ({ ...item, ...this.#priced(item) }));
      this.#placedAt = Date.now();
      this.cart.accepted(key);
      this.#complain("");
      this.onPlaced({ ...answer, wants_sms: "customer_phone" in order }, items, Date.now() - clickedAt);
    } catch (error) {
      this.#failed(error, order);
    } finally {
      this.#sending = null;
      this.#update();
    }
  }

  #priced({ sku }) {
    const dish = this.dishes.get(sku);
    return { name: dish?.name ?? sku, unit_price: dish?.price };
  }

  #failed(error, order) {
    if (error instanceof Stopped || error instanceof NoAnswer) {
      const why = error instanceof Stopped ? "Stopped." : "The order service still does not answer.";
      this.#complain(`${why} Your order is kept here. It may have arrived all the same: sent again as it is, it stays ` +
        "one order. Changed, it is a new one.");
      return;
    }
    this.cart.refused();
    this.#showErrors(error.fields ?? [], order);
    this.#complain(refusal(error));
  }

  #sayTrying(error, seconds) {
    const why = error instanceof NoAnswer ? "The order service does not answer." : refusal(error);
    const when = seconds === 1 ? "in a second" : `in ${seconds} seconds`;
    this.#complain(`${why} Your order is kept, and is sent again ${when}. It cannot be placed twice.`, true);
  }

  #complain(words, isTrying = false) {
    byId("trouble").hidden = !words;
    byId("trouble-words").textContent = words;
    byId("trouble").querySelector(".choices").hidden = !isTrying;
  }

  /** Each error beside its field; the first of them gets the focus. */
  #showErrors(errors, order) {
    const fields = [["customer_email", "email"], ["customer_phone", "phone"], ["payment_token", "card"]];
    const places = new Map(fields.map(([field, id]) => [field, { input: byId(id), note: byId(`${id}-error`) }]));
    this.dishes.forEach((_dish, sku) => {
      places.set(sku, { input: byId(`quantity-${sku}`), note: byId(`error-${sku}`) });
    });
    for (const { input, note } of places.values()) {
      input?.removeAttribute("aria-invalid");
      note.textContent = "";
    }
    const found = errors.map((error) => ({ place: places.get(fieldOf(error, order)), ...error }));
    found.filter(({ place }) => place).forEach(({ place, detail }) => {
      place.input?.setAttribute("aria-invalid", "true");
      place.note.textContent = detail;
    });
    found.find(({ place }) => place?.input)?.place.input.focus();
  }

  #update() {
    const { cart, dishes } = this;
    const isSending = this.#sending !== null;
    byId("cart-empty").hidden = !cart.isEmpty;
    byId("cart-lines").replaceChildren(...cart.lines.map(([sku, quantity]) => line(cart, sku, dishes.get(sku), quantity)));
    for (const name of ["email", "phone"]) if (byId(name).value !== cart[name]) byId(name).value = cart[name];
    const total = totalOf(cart, dishes);
    byId("cart-total").hidden = !total;
    byId("total").textContent = total ? money(total) : "";
    for (const selector of LOCKED_MEANWHILE) document.querySelector(selector).inert = isSending;
    byId("place").textContent = isSending ? "Placing the order …" : "Place order";
    byId("place").setAttribute("aria-disabled", isSending || cart.isEmpty);
  }
}

/** Shows what an order of these lines costs at the menu's prices. The service decides in the end. */
function totalOf(cart, dishes) {
  const known = cart.lines.filter(([sku]) => dishes.has(sku));
  if (!known.length) return null;
  const amount_minor = known.reduce((sum, [sku, quantity]) => sum + dishes.get(sku).price.amount_minor * quantity, 0);
  return { amount_minor, currency: dishes.get(known[0][0]).price.currency };
}

function line(cart, sku, dish, quantity) {
  const price = dish && money({ ...dish.price, amount_minor: dish.price.amount_minor * quantity });
  const name = dish?.name ?? `${sku} (no longer on the menu)`;
  return element("li", {},
    element("span", {}, `${quantity} × ${name}`),
    element("span", { class: "price" }, price ?? ""),
    element("button", {
      type: "button", class: "remove", "aria-label": `Remove ${name}`,
      onclick: () => { cart.setQuantity(sku, 0); byId("pad-heading").focus(); },
    }, "×"));
}

/** `items[1].quantity` is about the dish on the second line. */
function fieldOf({ field }, order) {
  const index = /^items\[(\d+)\]/.exec(field)?.[1];
  return index === undefined ? field : order.items[index]?.sku;
}

function refusal(error) {
  switch (error.status) {
    case 409: return `That is not possible any more: ${error.message}`;
    case 413: return "This order is too large to be taken. Please make two of it.";
    case 422: case 400: return error.fields?.length ? `Please look at this again. ${describe(error.fields)}` : error.message;
    case 429: return "Too many orders arrive at the moment.";
    case 503: return "The shop cannot take orders for a moment. Nothing was ordered.";
    default: return error.status ? `The order was not taken: ${error.message}` : `This page has failed: ${error.message}`;
  }
}

function describe(fields) {
  const names = { customer_email: "Email", customer_phone: "Mobile number", payment_token: "Card" };
  return fields.map(({ field, detail }) => `${names[field] ?? field}: ${detail}.`).join(" ");
}
