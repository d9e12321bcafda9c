// The rail: one order's ticket, and how far it has come.

import { byId, element, say } from "./dom.js";
import { clock, duration, money, ticketNumber } from "./format.js";
import { Following } from "./following.js";
import { recall, remember } from "./memory.js";
import { Story, when } from "./story.js";

const MINE = "order-rail.mine"; // [order id, ms from click to answer] of the orders that were placed in this browser
const MAX_MINE = 50;
const WORDS = { waiting: "waiting …", later: "later", skipped: "not needed", done: "", failed: "", stuck: "" };
const LINKS = {
  polling: "Looking every second or so: there is no live stream.",
  away: "The order service does not answer. The order is safe; looking again …",
};
const EMPTY = {
  headline: "What would you like?",
  explanation: "Pick dishes, place the order, and watch its ticket move along the rail.",
};

export class Rail {
  #following = null;
  #since = 0;
  #story = null;
  #placed = null; // the answer to the order just placed, shown until the order is read

  /** `onOver()` is called when nothing more will happen to the order; `onAgain(items)` orders the same items again. */
  constructor({ onOver, onAgain }) {
    this.onOver = onOver;
    this.onAgain = onAgain;
    setInterval(() => this.#showWords(), 1000);
  }

  /** The service has accepted this order: show the answer until the order is read. */
  placed(order, tookMs) {
    remember(MINE, [[order.order_id, tookMs], ...recall(MINE, [])].slice(0, MAX_MINE));
    this.#placed = { ...order, timeline: [{ type: "order.placed.v1", at: order.placed_at }] };
  }

  /** Show this order; null shows none. */
  show(orderId) {
    this.#following?.stop();
    this.#following = this.#story = null;
    this.#since = Date.now();
    byId("rail").dataset.order = orderId ?? "";
    if (orderId === null) return this.#clear();
    this.#following = new Following(orderId, {
      order: (order) => this.#showOrder(order),
      missing: () => this.#showMissing(),
      link: (how) => this.#showLink(how),
    });
    this.#showLink("looking");
    if (this.#placed?.order_id === orderId) this.#showOrder(this.#placed);
    else this.#clear({ headline: `Looking for ticket ${ticketNumber(orderId)} …`, explanation: "" });
    this.#placed = null;
    this.#following.look();
  }

  #clear(words = EMPTY) {
    byId("ticket").hidden = true;
    byId("rail").dataset.status = "none";
    this.#showStations(["Placed", "Paid", "Kitchen told", "Customer told"].map((name) => ({ name, state: "idle", parts: [] })));
    this.#write(words.headline, words.explanation);
    document.title = "Order Rail";
  }

  #showMissing() {
    this.#clear({
      headline: "There is no such order here.",
      explanation: "The link may have been cut short, or it belongs to another kitchen. The menu is below.",
    });
    this.#showLink("over");
  }

  #showOrder(order) {
    if (JSON.stringify(order) === JSON.stringify(this.#story?.order)) return;
    this.#story = new Story(order, recall(MINE, []).find(([id]) => id === order.order_id)?.[1]);
    byId("rail").dataset.status = order.status;
    byId("rail").style.setProperty("--station", this.#story.station);
    document.title = `${ticketNumber(order.order_id)} ${order.status} · Order Rail`;
    this.#showStations(this.#story.steps);
    this.#showWords();
    this.#showTicket(order);
    if (this.#story.isOver || this.#story.isStuck) this.onOver();
  }

  #showWords() {
    if (this.#story) this.#write(this.#story.headline, this.#story.explanation(Date.now() - this.#since));
  }

  #write(headline, explanation) {
    if (byId("headline").textContent !== headline) {
      byId("headline").textContent = headline;
      byId("announcement").textContent = headline;
    }
    if (byId("explanation").textContent !== explanation) byId("explanation").textContent = explanation;
  }

  #showLink(how) {
    byId("rail").dataset.link = how;
    say(byId("link"), LINKS[how]);
  }

  #showStations(steps) {
    byId("stations").replaceChildren(...steps.map((step, index) => this.#station(step, index)));
  }

  #station({ name, state, parts }, index) {
    const facts = parts.filter((part) => part.state !== "waiting" || part.name).map((part) =>
      element("span", { class: "fact", "data-state": part.state },
        [part.name, when(part) || WORDS[part.state]].filter(Boolean).join(" ")));
    if (index === 0 && this.#story) facts.push(element("span", { class: "fact" }, this.#placement()));
    if (!facts.length && WORDS[state]) facts.push(element("span", { class: "fact" }, WORDS[state]));
    return element("li", { "data-state": state }, element("strong", {}, name), ...facts);
  }

  /** "12 ms after your click", where it was placed in this browser. */
  #placement() {
    const { tookMs, order } = this.#story;
    return tookMs ? `in ${duration(tookMs)} from your click` : `at ${clock(order.placed_at)}`;
  }

  #showTicket(order) {
    const isOpen = byId("ticket").querySelector("details")?.open;
    const focused = byId("ticket").querySelector(":focus")?.tagName; // the summary or the button
    byId("ticket").hidden = false;
    byId("ticket").replaceChildren(element("div", { class: "sheet" },
      element("p", { class: "ticket-top" },
        element("strong", { id: "ticket-number" }, `No. ${ticketNumber(order.order_id)}`),
        element("time", { datetime: order.placed_at }, clock(order.placed_at))),
      element("ul", { class: "lines" }, ...order.items.map(ticketLine)),
      element("p", { class: "total" }, element("span", {}, "Total"), element("span", {}, money(order.total))),
      duplicates(order),
      reports(order, isOpen),
      element("p", { class: "choices" },
        element("button", { type: "button", class: "small", onclick: () => this.onAgain(order.items) }, "The same again"))));
    if (focused) byId("ticket").querySelector(focused).focus();
  }
}

function ticketLine({ quantity, name, unit_price }) {
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
  return element("details", { open: Boolean(isOpen) },
    element("summary", {}, `What was reported (${order.timeline.length})`),
    element("ol", { class: "reports" }, ...order.timeline.map((entry) =>
      element("li", {}, element("code", {}, entry.type), " ",
        [entry.channel, new Date(entry.at) > start ? `after ${duration(new Date(entry.at) - start)}` : clock(entry.at),
          entry.attempts > 1 ? `attempt ${entry.attempts}` : null].filter(Boolean).join(", ")))),
    element("p", { class: "quiet" }, "Order ", element("code", {}, order.order_id)));
}
