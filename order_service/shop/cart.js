// What the customer is about to order, stored in the browser, and its idempotency key.
//
// The same content has the same key, so sending it again (a double click, a reload, a retry) places one order. A change
// of the content, or a new cart after the order was accepted, gets a new key.

import { recall, remember } from "./memory.js";

const NAME = "order-rail.cart";
export const DEMO = { email: "ada@example.com", phone: "+4915112345678" };
const EMPTY = { items: {}, ...DEMO, token: "tok_visa", key: null, sentAt: null, isStopped: false };
export const MAX_QUANTITY = 100;
const isText = (value) => typeof value === "string";
const isQuantity = (value) => Number.isInteger(value) && value > 0 && value <= MAX_QUANTITY;
const FORMS = { // of what is stored
  items: (value) => value !== null && typeof value === "object" && Object.values(value).every(isQuantity),
  email: isText,
  phone: isText,
  token: isText,
  key: (value) => value === null || isText(value),
  sentAt: (value) => value === null || Number.isFinite(value),
  isStopped: (value) => typeof value === "boolean",
};

/** Fires "change" after each change, in this tab or another one. */
export class Cart extends EventTarget {
  #state = stored();

  constructor() {
    super();
    window.addEventListener("storage", (event) => {
      if (event.key === NAME || event.key === null) this.#become(stored());
    });
  }

  /** Call `update` now and after each change. */
  watch(update) {
    this.addEventListener("change", update);
    update();
  }

  get email() { return this.#state.email; }
  get phone() { return this.#state.phone; }
  get token() { return this.#state.token; }
  get key() { return this.#state.key; }

  /** When it was sent, in ms since 1970, while there is no answer; else null. */
  get sentAt() { return this.#state.sentAt; }

  /** The customer does not want it to be sent again, except with the button. */
  get isStopped() { return this.#state.isStopped; }

  get isEmpty() { return !Object.keys(this.#state.items).length; }

  /** `[sku, quantity]` of each dish. */
  get lines() { return Object.entries(this.#state.items); }

  quantity(sku) { return this.#state.items[sku] ?? 0; }

  setQuantity(sku, value) {
    const quantity = Math.min(MAX_QUANTITY, Math.max(0, Math.trunc(value) || 0));
    const { [sku]: _before, ...others } = this.#state.items;
    this.#change({ items: quantity ? { ...this.#state.items, [sku]: quantity } : others });
  }

  setItems(items) { this.#change({ items: Object.fromEntries(items.map((item) => [item.sku, item.quantity])) }); }

  /** Email, phone or token. */
  set(name, value) { this.#change({ [name]: value }); }

  /** The body of `POST /orders`. */
  get order() {
    return {
      customer_email: this.email.trim(),
      ...(this.phone.trim() ? { customer_phone: this.phone.trim() } : {}),
      items: this.lines.map(([sku, quantity]) => ({ sku, quantity })),
      payment_token: this.token,
    };
  }

  /** Call it before the order is sent: it stores the key, so that a reload sends the same one. */
  send() {
    this.#keep({ key: this.key ?? newKey(), sentAt: this.sentAt ?? Date.now(), isStopped: false });
    return this.key;
  }

  /** Whether the order of this key may still be sent. Asks the storage, since another tab may have stopped it. */
  maySend(key) {
    const now = stored();
    return now.key === key && now.sentAt !== null && !now.isStopped;
  }

  /** From now on nothing but the button sends it, in any tab. It keeps its key: it may have arrived. */
  stop() { this.#keep({ isStopped: true }); }

  /** The service has refused the order. */
  refused() { this.#keep({ sentAt: null }); }

  /** The order is accepted: empty the cart, unless another tab has begun a new one. */
  accepted(key) {
    if (this.key === key) this.#keep({ items: {}, key: null, sentAt: null, isStopped: false });
  }

  #change(content) { this.#keep({ ...content, key: null, sentAt: null, isStopped: false }); }

  #keep(changed) {
    const state = { ...this.#state, ...changed };
    remember(NAME, state);
    this.#become(state);
  }

  #become(state) {
    this.#state = state;
    this.dispatchEvent(new Event("change"));
  }
}

/** What is stored in the form that is expected, and what is usual in place of the rest. */
function stored() {
  const fitting = Object.entries(recall(NAME, {})).filter(([name, value]) => FORMS[name]?.(value));
  return { ...EMPTY, ...Object.fromEntries(fitting) };
}

/** 128 random bits. Not `randomUUID`, which browsers offer on localhost and over HTTPS only. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
