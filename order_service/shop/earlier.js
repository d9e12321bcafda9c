// The accepted orders, newest first, each with a link to its ticket.

import { readOrders } from "./api.js";
import { byId, element, say } from "./dom.js";
import { clock, money, ticketNumber } from "./format.js";

const PAGE = 8;
const MAX_PAGE = 100; // of the API

export class Earlier {
  #shown = [];
  #next = null;
  #open = null;

  constructor() {
    byId("more").addEventListener("click", () => this.#more());
    this.refresh();
  }

  /** Read as many as are shown again. */
  refresh() { return this.#read(Math.min(MAX_PAGE, Math.max(PAGE, this.#shown.length))); }

  /** Mark the one whose ticket is shown. */
  mark(orderId) {
    this.#open = orderId;
    this.#show();
  }

  async #more() {
    const before = this.#shown.length;
    await this.#read(PAGE, this.#next);
    byId("earlier-list").children[before]?.querySelector("a").focus();
  }

  /** Those after the cursor are added to what is shown; without a cursor they replace it. */
  async #read(count, after) {
    try {
      const page = await readOrders(count, after);
      this.#shown = after ? [...this.#shown, ...page.orders] : page.orders;
      this.#next = page.next;
      say(byId("earlier-note"), this.#shown.length ? "" : "There are none yet: yours will be the first.");
    } catch {
      say(byId("earlier-note"), "They cannot be read just now: the order service does not answer.");
    }
    this.#show();
  }

  #show() {
    const focused = byId("earlier-list").querySelector(":focus")?.getAttribute("href");
    byId("earlier-list").replaceChildren(...this.#shown.map((order) => this.#slip(order)));
    if (focused) byId("earlier-list").querySelector(`[href="${focused}"]`)?.focus();
    byId("more").hidden = this.#next === null;
  }

  #slip({ order_id, status, total, placed_at }) {
    return element("li", {},
      element("a", { class: "slip paper", href: `#/orders/${order_id}`, "aria-current": order_id === this.#open && "true" },
        element("strong", {}, `No. ${ticketNumber(order_id)}`),
        element("span", { class: "status", "data-status": status }, status),
        element("time", { datetime: placed_at }, clock(placed_at)),
        element("span", { class: "price" }, money(total))));
  }
}
