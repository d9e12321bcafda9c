// What an order's timeline means, in sentences for people. Uses neither the document nor the network.

import { duration, list, ordinal } from "./format.js";

const CHANNELS = { email: "email", sms: "text message", restaurant: "kitchen" };
const PEOPLE = { email: "you", sms: "you", restaurant: "the kitchen" };
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
    this.channels = order.status === "declined" ? ["email"] : ["restaurant", "email"];
    if (order.wants_sms) this.channels.push("sms");
    this.notified = Object.fromEntries(this.channels.map((channel) => [channel, this.#notification(channel)]));
  }

  /** Nothing more will happen to the order unless a person acts. */
  get isOver() {
    const { status } = this.order;
    if (status === "cancelled" || status === "refunded") return true;
    return this.isPaid || status === "declined" ? !this.awaited.length : false;
  }

  get isStuck() { return this.order.status === "stalled"; }

  get isPaid() { return this.payment.state === "done"; }

  /** The channels that have not reported. */
  get awaited() { return this.channels.filter((channel) => this.notified[channel].state === "waiting"); }

  get failed() { return this.channels.filter((channel) => this.notified[channel].state === "failed"); }

  /** The stations of the rail from left to right. */
  get steps() {
    const customers = this.channels.filter((channel) => channel !== "restaurant");
    return [
      { name: "Placed", state: "done", parts: [] },
      { name: "Paid", state: this.payment.state, parts: [this.payment] },
      this.#step("Kitchen told", ["restaurant"]),
      this.#step("Customer told", customers),
    ];
  }

  /** How far along the rail the ticket has come: the number of a station, from 0. */
  get station() {
    if (!this.isPaid) return ["failed", "stuck"].includes(this.payment.state) ? 1 : 0;
    const [, , kitchen, customer] = this.steps;
    if (kitchen.state !== "done") return 1;
    return customer.state === "done" ? 3 : 2;
  }

  /** Milliseconds from the placement to the last thing that happened. */
  get lastedMs() { return Math.max(...this.order.timeline.map((entry) => this.#sinceMs(entry.at))); }

  get headline() {
    switch (this.order.status) {
      case "placed": return `Placed${this.tookMs ? ` in ${duration(this.tookMs)}` : ""}. Waiting for the payment.`;
      case "paid": case "confirmed": return this.#paidHeadline();
      case "declined": return "The card was declined.";
      case "cancelled": return "This order was cancelled.";
      case "refunded": return "This order was refunded.";
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
      case "cancelled": return "Nothing was charged, and the kitchen will not cook it.";
      case "refunded": return "The money went back to the card.";
      case "stalled": return `The payment was given up after ${tries(this.payment.attempts)} (${inWords(this.payment.error)}). ` +
        "Its ticket was set aside as a dead letter, and holds up nobody else. " +
        "Once somebody has mended the cause and sent it back (order-rail dead-letters redrive), the order goes on.";
      default: return "";
    }
  }

  #paidHeadline() {
    if (this.failed.length) return "It is paid, but not everyone could be told.";
    const status = this.order.status === "paid" ? "Paid." : "Confirmed.";
    if (!this.awaited.length) return `${status} The kitchen knows, and so do you.`;
    return `${status} Still to be told: ${list(new Set(this.awaited.map((channel) => PEOPLE[channel])))}.`;
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

  #payment() {
    const named = (type) => this.order.timeline.findLast((entry) => entry.type.startsWith(`payment.${type}.`));
    const succeeded = named("succeeded");
    if (succeeded) return this.#part("done", "", succeeded);
    const declined = named("declined");
    if (declined) return this.#part("failed", "declined", declined);
    const stalled = named("stalled");
    if (stalled) return this.#part("stuck", "given up", stalled);
    return { state: this.order.status === "cancelled" ? "skipped" : "waiting", name: "" };
  }

  #notification(channel) {
    const last = this.order.timeline.findLast(
      (entry) => entry.type.startsWith("notification.") && entry.channel === channel);
    const name = channel === "restaurant" ? "" : CHANNELS[channel];
    if (!last) return { state: "waiting", name };
    return last.type.startsWith("notification.delivered.") ? this.#part("done", name, last)
      : this.#part("failed", `${name} given up`.trim(), last);
  }

  #part(state, name, entry) {
    return { ...entry, state, name, afterMs: this.#sinceMs(entry.at) };
  }

  #step(name, channels) {
    const parts = channels.map((channel) => this.notified[channel]).filter(Boolean);
    if (this.order.status === "cancelled" || !parts.length) return { name, state: "skipped", parts: [] };
    if (["waiting", "stuck"].includes(this.payment.state)) return { name, state: "later", parts: [] };
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
const inWords = (error = "nobody said why") => error.replace(/^\w+: /, "");

const tries = (count) => (count === 1 ? "one attempt" : `${count} attempts`);
