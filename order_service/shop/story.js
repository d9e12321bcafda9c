// What an order's timeline means, in sentences for people. Uses neither the document nor the network.

import { duration, list, money, ordinal } from "./format.js";

const CHANNELS = { email: "email", sms: "text message", push: "push message", restaurant: "kitchen" };
const PEOPLE = { email: "you", sms: "you", push: "you", restaurant: "the kitchen" };
const CALLED_OFF = ["cancelling", "cancelled", "refunded"];
const AFTER_CANCELLATION = ["cancellation", "refund", "kitchen_stop"]; // notices
const REASONS = {
  card_declined: "The bank said no to this card.",
  unknown_payment_token: "The bank does not know this card.",
};
const SLOW_MS = 5000;

/** Where each of an order's steps is: "done", "waiting" (for it, now), "later", "failed", "stuck", or "skipped". */
export class Story {
  /** `tookMs`: from the click to the answer, if that is known. */
  constructor(order, tookMs) {
    this.order = order;
    this.tookMs = tookMs;
    this.payment = this.#payment();
    this.channels = this.#channels();
    this.notified = Object.fromEntries(this.channels.map((channel) => [channel, this.#notification(channel)]));
  }

  /** Nothing more will happen to the order unless a person acts. */
  get isOver() {
    const mayEnd = ["paid", "confirmed", "declined", "cancelled", "refunded"].includes(this.order.status);
    return mayEnd && !this.awaited.length;
  }

  get isStuck() { return this.order.status === "stalled"; }

  get isCalledOff() { return CALLED_OFF.includes(this.order.status); }

  get isPaid() { return this.payment.state === "done"; }

  /** The channels that have not reported. */
  get awaited() { return this.channels.filter((channel) => this.notified[channel].state === "waiting"); }

  get failed() { return this.channels.filter((channel) => this.notified[channel].state === "failed"); }

  /** The stations of the rail from left to right. */
  get steps() {
    const placed = { name: "Placed", state: "done", parts: [] };
    if (this.isCalledOff) {
      const cancelled = this.#event("order.cancelled");
      const parts = cancelled ? [this.#part("done", "", cancelled)] : [];
      return [placed, { name: "Cancelled", state: "done", parts }, this.#money(), this.#step("Everyone told", this.channels)];
    }
    return [
      placed,
      { name: "Paid", state: this.payment.state, parts: [this.payment] },
      this.#step("Kitchen told", this.channels.filter((channel) => channel === "restaurant")),
      this.#step("Customer told", this.channels.filter((channel) => channel !== "restaurant")),
    ];
  }

  /** How far along the rail the ticket has come: the number of a station, from 0. */
  get station() {
    const [, second, third, last] = this.steps;
    if (!this.isCalledOff && !this.isPaid) return ["failed", "stuck"].includes(second.state) ? 1 : 0;
    if (third.state !== "done") return 1;
    return last.state === "done" ? 3 : 2;
  }

  /** Milliseconds from the placement to the last thing that happened. */
  get lastedMs() { return Math.max(...this.order.timeline.map((entry) => this.#sinceMs(entry.at))); }

  get headline() {
    switch (this.order.status) {
      case "placed": return `Placed${this.tookMs ? ` in ${duration(this.tookMs)}` : ""}. Waiting for the payment.`;
      case "paid": case "confirmed": return this.#paidHeadline();
      case "declined": return "The card was declined.";
      case "cancelling": return "Called off. The money is being settled.";
      case "cancelled": return "Cancelled. Nothing was charged.";
      case "refunded": return "Cancelled. The money is back on the card.";
      case "stalled": return "This order is stuck: it could not be charged.";
      default: return `This order is ${this.order.status}.`;
    }
  }

  /** A sentence or two on what that means. `waitedMs`: for how long the page has shown it. */
  explanation(waitedMs = 0) {
    switch (this.order.status) {
      case "placed": return waitedMs < SLOW_MS ? "The order is safe. Its ticket waits in a queue until the payment service takes it."
        : "This takes longer than usual. The order is safe: its ticket waits in a queue, and goes on by itself.";
      case "paid": case "confirmed": return this.#paidExplanation();
      case "declined": return `${REASONS[this.payment.reason] ?? this.payment.reason ?? ""} Nothing was charged, and the kitchen was not bothered.`.trim();
      case "cancelling": return this.#cancellingExplanation(waitedMs);
      case "cancelled": return `${this.#whyCancelled}The kitchen never heard of it. ${this.#toBeTold}`.trim();
      case "refunded": return `${this.#whyCancelled}${money(this.order.total)} went back to the card. ${this.#toBeTold}`.trim();
      case "stalled": return this.#stalledExplanation();
      default: return "";
    }
  }

  #paidHeadline() {
    if (this.failed.length) return "It is paid, but not everyone could be told.";
    const status = this.order.status === "paid" ? "Paid." : "Confirmed.";
    if (this.isOver) return `${status} The kitchen knows, and so do you.`;
    return `${status} ${this.#toBeTold}`;
  }

  get #toBeTold() {
    if (!this.awaited.length) return "";
    return `Still to be told: ${list(new Set(this.awaited.map((channel) => PEOPLE[channel])))}.`;
  }

  #paidExplanation() {
    if (this.failed.length) {
      return this.failed.map((channel) => {
        const { attempts, error } = this.notified[channel];
        return `Given up after ${tries(attempts)}: ${CHANNELS[channel]} (${inWords(error)}).`;
      }).join(" ") + " Somebody has to look at it and send it back.";
    }
    return this.isOver ? `All of it was done ${duration(this.lastedMs)} after it was placed.` : "";
  }

  #stalledExplanation() {
    const { attempts, error, at } = this.payment;
    const stalls = this.#events("payment.stalled").length;
    const again = stalls > 1 ? ` It was tried again, and given up again ${duration(this.#sinceMs(at))} after it was placed.` : "";
    return `The payment was given up after ${tries(attempts)} (${inWords(error)}).${again} ` +
      "Its ticket was set aside as a dead letter, and holds up nobody else. It goes on only if somebody mends the cause " +
      "and sends it back (order-rail dead-letters redrive); once it has been discarded, it never does.";
  }

  #cancellingExplanation(waitedMs) {
    if (waitedMs >= SLOW_MS) {
      return "This takes longer than usual. The cancellation is safe: it waits in a queue, and goes on by itself. If the " +
        "bank refuses the refund for good, somebody has to look at it.";
    }
    return this.isPaid ? `${money(this.order.total)} is on its way back to the card.`
      : "If it was not charged yet, it never will be; else the money comes back.";
  }

  get #whyCancelled() {
    return this.#event("order.cancelled")?.reason === "payment-timeout" ? "It was not paid in time. " : "";
  }

  /** Whoever is told about this order, and how. */
  #channels() {
    const { status, wants_sms, wants_push } = this.order;
    const kitchen = ["placed", "stalled", "paid", "confirmed", "refunded"].includes(status) ? ["restaurant"] : [];
    return [...kitchen, "email", ...(wants_sms ? ["sms"] : []), ...(wants_push ? ["push"] : [])];
  }

  #events(type) { return this.order.timeline.filter((entry) => entry.type.startsWith(`${type}.`)); }

  #event(type) { return this.#events(type).at(-1); }

  #payment() {
    const states = { succeeded: ["done", ""], declined: ["failed", "declined"], stalled: ["stuck", "given up"] };
    for (const [type, [state, name]] of Object.entries(states)) {
      const entry = this.#event(`payment.${type}`);
      if (entry) return this.#part(state, name, entry);
    }
    return { state: "waiting", name: "" };
  }

  /** Where the money of a cancelled order is. */
  #money() {
    const refunded = this.#event("payment.refunded"), voided = this.#event("payment.voided");
    if (refunded) return { name: "Money back", state: "done", parts: [this.#part("done", "", refunded)] };
    if (voided) return { name: "Nothing charged", state: "done", parts: [this.#part("done", "", voided)] };
    return { name: this.isPaid ? "Money back" : "Charge called off", state: "waiting", parts: [] };
  }

  #notification(channel) {
    const last = this.order.timeline.findLast((entry) => entry.type.startsWith("notification.") &&
      entry.channel === channel && AFTER_CANCELLATION.includes(entry.notice) === this.isCalledOff);
    const name = channel === "restaurant" && !this.isCalledOff ? "" : CHANNELS[channel];
    if (!last) return { state: "waiting", name };
    return last.type.startsWith("notification.delivered.") ? this.#part("done", name, last)
      : this.#part("failed", `${name} given up`.trim(), last);
  }

  #part(state, name, entry) {
    return { ...entry, state, name, afterMs: this.#sinceMs(entry.at) };
  }

  #step(name, channels) {
    const parts = channels.map((channel) => this.notified[channel]);
    if (!parts.length) return { name, state: "skipped", parts: [] };
    const isLater = this.isCalledOff ? this.order.status === "cancelling" : ["waiting", "stuck"].includes(this.payment.state);
    if (isLater) return { name, state: "later", parts: [] };
    const states = parts.map((part) => part.state);
    return { name, state: ["failed", "waiting", "done"].find((each) => states.includes(each)), parts };
  }

  /** Never negative, though the clocks of different machines differ. */
  #sinceMs(at) { return Math.max(0, new Date(at) - new Date(this.order.placed_at)); }
}

/** "after 134 ms, at the 3rd attempt" */
export function when(part) {
  if (part.afterMs === undefined) return "";
  return `after ${duration(part.afterMs)}` + (part.attempts > 1 ? `, at the ${ordinal(part.attempts)} attempt` : "");
}

/** The error without the name of its class. */
const inWords = (error = "no reason was given") => error.replace(/^\w+: /, "");

const tries = (count) => (count === 1 ? "one attempt" : `${count} attempts`);
