// The list of orders that were placed in this browser, each with a link to its ticket.

import { readOrder } from "./api.js";
import { byId, element, say, time } from "./dom.js";
import { money, ticketNumber } from "./format.js";

const PAGE = 8;
const SETTLED = ["declined", "cancelled", "refunded", "unknown"];
const CANCELLABLE_MS = 3_600_000; // a confirmed order may still be cancelled elsewhere; an old one is not asked for

export class Earlier {
  #count = PAGE;
  #open = null;

  /** `question` asks before the list is forgotten. */
  constructor(mine, question) {
    this.mine = mine;
    byId("more").addEventListener("click", () => this.#more());
    byId("forget").addEventListener("click", () => question.ask(this.#forgetting()));
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
    mine.addEventListener("change", () => this.#show());
    this.#show();
  }

  /** Read the status of those that may have another one by now. */
  refresh() { return Promise.all(this.#shown.filter(mayChange).map(({ order_id }) => this.#look(order_id))); }

  /** Mark the one whose ticket is shown. */
  mark(orderId) {
    this.#open = orderId;
    this.#show();
  }

  get #shown() { return this.mine.orders.slice(0, this.#count); }

  async #look(orderId) {
    try {
      this.mine.see(orderId, (await readOrder(orderId)).status);
    } catch (error) {
      if (error.status === 404) this.mine.see(orderId, "unknown");
    }
  }

  #more() {
    const before = this.#count;
    this.#count += PAGE;
    this.#show();
    byId("earlier-list").children[before]?.querySelector("a").focus();
    this.refresh();
  }

  #forgetting() {
    return {
      heading: "Forget these orders?",
      words: ["They stay placed. Without their addresses nobody can open or cancel them any more; your browser's history " +
        "may still hold the addresses."],
      yes: "Forget them",
      no: "Keep them",
      act: () => this.mine.forget(),
      returnTo: ["forget", "earlier"],
    };
  }

  #show() {
    const focused = byId("earlier-list").querySelector(":focus")?.getAttribute("href");
    byId("earlier-list").replaceChildren(...this.#shown.map((order) => this.#slip(order)));
    if (focused) byId("earlier-list").querySelector(`[href="${focused}"]`)?.focus();
    const count = this.mine.orders.length;
    say(byId("earlier-note"), count ? "" : "None yet. What you order in this browser is listed here, and nowhere else.");
    byId("more").hidden = count <= this.#count;
    byId("forget").hidden = !count;
  }

  #slip({ order_id, status, total, placed_at }) {
    return element("li", {},
      element("a", { class: "slip paper", href: `#/orders/${order_id}`, "aria-current": order_id === this.#open && "true" },
        element("strong", {}, `No. ${ticketNumber(order_id)}`),
        element("span", { class: "status", "data-status": status }, status === "unknown" ? "not known here" : status),
        time(placed_at),
        element("span", { class: "price" }, money(total))));
  }
}

function mayChange({ status, placed_at }) {
  if (SETTLED.includes(status)) return false;
  return status !== "confirmed" || Date.now() - new Date(placed_at) < CANCELLABLE_MS;
}
