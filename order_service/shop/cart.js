// What the customer is about to order, kept in the browser, and the idempotency key that belongs to it.
//
// One content, one key: however often it is sent (a double click, a reload, another try after no answer), it is one
// order. Only a change of the content, or a new cart after the order was taken, makes a new key.

import { recall, remember } from "./memory.js";

const NAME = "order-rail.cart";
const EMPTY = { items: {}, email: "ada@example.com", phone: "+4915112345678", token: "tok_visa", key: null, sentAt: null };
export const MAX_QUANTITY = 100;

/** Fires "change" whenever anything of it is different, also when that happened in another tab. */
export class Cart extends EventTarget {
  #kept = { ...EMPTY, ...recall(NAME, {}) };

  constructor() {
    super();
    window.addEventListener("storage", (event) => {
      if (event.key === NAME) this.#become({ ...EMPTY, ...recall(NAME, {}) });
    });
  }

  get email() { return this.#kept.email; }
  get phone() { return this.#kept.phone; }
  get token() { return this.#kept.token; }
  get key() { return this.#kept.key; }

  /** When it was sent without an answer so far, in ms since 1970; else null. */
  get sentAt() { return this.#kept.sentAt; }

  get isEmpty() { return !Object.keys(this.#kept.items).length; }

  /** `[sku, quantity]` of each dish. */
  get lines() { return Object.entries(this.#kept.items); }

  quantity(sku) { return this.#kept.items[sku] ?? 0; }

  setQuantity(sku, wanted) {
    const quantity = Math.min(MAX_QUANTITY, Math.max(0, Math.trunc(wanted) || 0));
    const { [sku]: _before, ...others } = this.#kept.items;
    this.#change({ items: quantity ? { ...this.#kept.items, [sku]: quantity } : others });
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

  /** About to be sent: from here on its key is kept, whatever becomes of this page. */
  send() {
    this.#keep({ key: this.key ?? newKey(), sentAt: this.sentAt ?? Date.now() });
    return this.key;
  }

  /** There was an answer, and it was no. */
  refused() { this.#keep({ sentAt: null }); }

  /** The order is taken: the next cart is a new one, with the same customer. Another tab may have begun it already. */
  accepted(key) {
    if (this.key === key) this.#keep({ items: {}, key: null, sentAt: null });
  }

  #change(content) { this.#keep({ ...content, key: null, sentAt: null }); }

  #keep(changed) {
    const kept = { ...this.#kept, ...changed };
    remember(NAME, kept);
    this.#become(kept);
  }

  #become(kept) {
    this.#kept = kept;
    this.dispatchEvent(new Event("change"));
  }
}

/** 128 random bits. Not `randomUUID`, which browsers offer on localhost and over HTTPS only. */
function newKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
