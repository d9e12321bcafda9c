// The orders that were placed in this browser, newest first, as it last saw them. The service lists nobody's orders.

import { forget, recall, remember } from "./memory.js";

const NAME = "order-rail.mine";
const MAX_ORDERS = 200;

/** Fires "change" after each change, in this tab or another one. */
export class Mine extends EventTarget {
  constructor() {
    super();
    window.addEventListener("storage", ({ key }) => { if (key === NAME || key === null) this.#changed(); });
  }

  /** Each is `{order_id, placed_at, total, status, tookMs}`; `tookMs`: from the click to the answer. */
  get orders() { return recall(NAME, []).filter(isOrder); }

  find(orderId) { return this.orders.find((order) => order.order_id === orderId); }

  add({ order_id, placed_at, total, status }, tookMs) {
    const others = this.orders.filter((order) => order.order_id !== order_id); // the answer to a replay names it again
    this.#keep([{ order_id, placed_at, total, status, tookMs }, ...others].slice(0, MAX_ORDERS));
  }

  /** The order now has this status; `unknown`: the service has no such order any more. */
  see(orderId, status) {
    const { orders } = this;
    const seen = orders.find((order) => order.order_id === orderId);
    if (!seen || seen.status === status) return;
    seen.status = status;
    this.#keep(orders);
  }

  forget() {
    forget(NAME);
    this.#changed();
  }

  #keep(orders) {
    remember(NAME, orders);
    this.#changed();
  }

  #changed() { this.dispatchEvent(new Event("change")); }
}

/** Whether it can be shown. */
function isOrder(stored) {
  return typeof stored?.order_id === "string" && Number.isInteger(stored.total?.amount_minor) && Boolean(stored.total.currency);
}
