// The rail: how far one order has come, in stations and in words.

import { silence } from "./api.js";
import { byId, element, say, time } from "./dom.js";
import { duration, ticketNumber } from "./format.js";
import { Following } from "./following.js";
import { Story, when } from "./story.js";

const WORDS = { waiting: "waiting …", later: "later", skipped: "not needed", done: "", failed: "", stuck: "" };
const EMPTY = {
  headline: "What would you like?",
  explanation: "Pick dishes, place the order, and watch its ticket move along the rail.",
};

export class Rail {
  #following = null;
  #since = 0;
  #awaySince = null;
  #story = null;
  #placed = null; // the answer to the order just placed, shown until the order is read

  /** `mine`: the orders that were placed in this browser. `ticket`: shows the order in full. */
  constructor(mine, ticket) {
    this.mine = mine;
    this.ticket = ticket;
    setInterval(() => this.#showWords(), 1000);
  }

  /** The service has accepted this order: show the answer until the order is read. */
  placed(order, tookMs) {
    this.mine.add(order, tookMs);
    this.#placed = { ...order, timeline: [{ type: "order.placed.v1", at: order.placed_at }] };
  }

  /** Show this order; null shows none. */
  show(orderId) {
    this.#following?.stop();
    this.#following = this.#story = null;
    this.#since = Date.now();
    byId("rail").dataset.order = orderId ?? "";
    if (orderId === null) return this.#clear();
    if (this.#placed?.order_id === orderId) this.#showOrder(this.#placed);
    else this.#clear({ headline: `Looking for ticket ${ticketNumber(orderId)} …`, explanation: "" });
    this.#placed = null;
    this.#follow(orderId);
  }

  /** Something was done to the order: read it again, also if it was over. */
  lookAgain(orderId) {
    if (byId("rail").dataset.order !== orderId) return;
    this.#since = Date.now();
    this.#following?.stop();
    this.#follow(orderId);
  }

  #follow(orderId) {
    this.#following = new Following(orderId, {
      order: (order) => this.#showOrder(order),
      missing: () => this.#showMissing(orderId),
      link: (how) => this.#showLink(how),
    });
    this.#showLink("looking");
    this.#following.look();
  }

  #clear(words = EMPTY) {
    this.ticket.hide();
    byId("clip").hidden = true;
    byId("rail").dataset.status = "none";
    this.#showStations(["Placed", "Paid", "Kitchen told", "Customer told"].map((name) => ({ name, state: "idle", parts: [] })));
    this.#write(words.headline, words.explanation);
    this.#showLink("none");
    document.title = "Order Rail";
  }

  #showMissing(orderId) {
    this.#story = null;
    this.mine.see(orderId, "unknown");
    this.#clear({
      headline: "There is no such order here.",
      explanation: "The link may have been cut short, or it belongs to another kitchen. The menu is below.",
    });
    this.#showLink("over");
  }

  #showOrder(order) {
    if (JSON.stringify(order) === JSON.stringify(this.#story?.order)) return;
    this.#story = new Story(order, this.mine.find(order.order_id)?.tookMs);
    const number = ticketNumber(order.order_id);
    byId("rail").dataset.status = order.status;
    byId("rail").style.setProperty("--station", this.#story.station);
    byId("clip").hidden = false;
    byId("clip").textContent = number;
    document.title = `${number} ${order.status} · Order Rail`;
    this.#showStations(this.#story.steps);
    this.#showWords();
    this.ticket.show(order);
    this.mine.see(order.order_id, order.status);
  }

  #showWords() {
    if (this.#story) this.#write(this.#story.headline, this.#story.explanation(Date.now() - this.#since));
    this.#showLink(byId("rail").dataset.link);
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
    this.#awaySince = how === "away" ? this.#awaySince ?? Date.now() : null;
    if (how === "away") say(byId("link"), `${silence(this.#awaySince)} The order is safe; it is looked for again every few seconds.`);
    else say(byId("link"), how === "polling" ? "There is no live connection: the order is looked for every few seconds." : "");
  }

  #showStations(steps) {
    byId("stations").replaceChildren(...steps.map((step, index) => this.#station(step, index)));
  }

  #station({ name, state, parts }, index) {
    const facts = parts.filter((part) => part.state !== "waiting" || part.name).map(fact);
    if (index === 0 && this.#story) facts.push(this.#placement());
    if (!facts.length && WORDS[state]) facts.push(element("span", { class: "fact" }, WORDS[state]));
    return element("li", { "data-state": state }, element("strong", {}, name), ...facts);
  }

  /** "in 12 ms from your click", where it was placed in this browser. */
  #placement() {
    const { tookMs, order } = this.#story;
    if (tookMs) return time(order.placed_at, `in ${duration(tookMs)} from your click`, { class: "fact" });
    return element("span", { class: "fact" }, "at ", time(order.placed_at));
  }
}

function fact(part) {
  const words = [part.name, when(part) || WORDS[part.state]].filter(Boolean).join(" ");
  const attributes = { class: "fact", "data-state": part.state };
  return part.at ? time(part.at, words, attributes) : element("span", attributes, words);
}
