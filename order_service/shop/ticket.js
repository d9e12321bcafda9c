// The ticket: what was ordered, what was reported, and what can be done with the order.

import { byId, element, time } from "./dom.js";
import { duration, money, ticketNumber } from "./format.js";

export class Ticket {
  #order = null;

  /** Where the control room is, or null. */
  controlRoom = null;

  /** `onAgain(items)` orders the same items again; `cancelling` says whether and how the order can be cancelled. */
  constructor({ onAgain, cancelling }) {
    this.onAgain = onAgain;
    this.cancelling = cancelling;
  }

  hide() {
    this.#order = null;
    byId("ticket").hidden = true;
  }

  show(order) {
    const isOpen = byId("ticket").querySelector("details")?.open;
    const focused = byId("ticket").contains(document.activeElement) ? document.activeElement.id : "";
    const { note, button } = this.cancelling.parts(order);
    this.#order = order;
    byId("ticket").hidden = false;
    byId("ticket").replaceChildren(element("div", { class: "sheet" },
      element("p", { class: "ticket-top" },
        element("strong", { id: "ticket-number" }, `No. ${ticketNumber(order.order_id)}`),
        time(order.placed_at)),
      element("ul", { class: "lines" }, ...order.items.map(line)),
      element("p", { class: "total" }, element("span", {}, "Total"), element("span", {}, money(order.total))),
      duplicates(order),
      reports(order, isOpen),
      this.#storyLink(order.order_id),
      element("p", { class: "choices" },
        element("button", { type: "button", class: "small", id: "again", onclick: () => this.onAgain(order.items) }, "The same again"),
        button),
      note && element("p", { class: "quiet note" }, ...note)));
    if (focused) (byId(focused) ?? byId("headline")).focus(); // the button that had it may be gone
  }

  /** With what has changed beside the order. */
  refresh() { if (this.#order) this.show(this.#order); }

  #storyLink(orderId) {
    if (!this.controlRoom) return null;
    const href = `${this.controlRoom}/?order=${orderId}`;
    return element("p", { class: "elsewhere" },
      element("a", { id: "story", href, rel: "noreferrer" }, "All that happened to it, in the control room"));
  }
}

function line({ quantity, name, unit_price }) {
  const price = unit_price && money({ ...unit_price, amount_minor: unit_price.amount_minor * quantity });
  return element("li", {}, element("span", {}, `${quantity} × ${name}`), element("span", { class: "price" }, price ?? ""));
}

function duplicates({ duplicates: count }) {
  if (!count) return null;
  return element("p", { class: "duplicates" },
    `Duplicates suppressed: ${count}. The same request or the same event arrived again, and changed nothing.`);
}

/** What the services reported, word for word. */
function reports(order, isOpen) {
  const start = new Date(order.placed_at);
  const at = (entry) => (new Date(entry.at) > start ? time(entry.at, `after ${duration(new Date(entry.at) - start)}`) : time(entry.at));
  return element("details", { open: Boolean(isOpen) },
    element("summary", { id: "reported" }, `What was reported (${order.timeline.length})`),
    element("ol", { class: "reports" }, ...order.timeline.map((entry) =>
      element("li", {}, element("code", {}, entry.type), " ", entry.channel ? `${entry.channel}, ` : "", at(entry),
        entry.attempts > 1 ? `, attempt ${entry.attempts}` : ""))),
    element("p", { class: "quiet" }, "Order ", element("code", {}, order.order_id)));
}
