// Follows one order until nothing more will happen to it.
//
// The order is read after each event of the live stream. It is also polled: often without a stream, seldom with one,
// since a connection may be cut without notice.

import { readOrder } from "./api.js";
import { Story } from "./story.js";

const STREAMING_POLL_MS = 15_000;
const FIRST_POLL_MS = 1000;
const LONGEST_POLL_MS = 5000;
const STREAM_FAILURES_ALLOWED = 3;
const FINAL = ["confirmed", "declined", "cancelled", "refunded"]; // the service ends the stream there

export class Following {
  #stream = null;
  #streamFailures = 0;
  #timer = null;
  #pollMs = FIRST_POLL_MS;
  #isReading = false;
  #isStale = false;
  #isOver = false;
  #onVisibility = () => (document.hidden ? this.#disconnect() : this.look());

  /** Calls `on.order(order)`, `on.missing()` if there is none, and `on.link(how)`: "live", "polling", "looking" (for the
   * last notifications), "away" or "over". */
  constructor(orderId, on) {
    this.orderId = orderId;
    this.on = on;
    // A browser opens at most six connections to a server: hidden tabs must not hold them.
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  /** Read the order now; if it is being read, read it once more afterwards. */
  async look() {
    if (this.#isOver) return;
    this.#isStale = this.#isReading;
    if (this.#isReading) return;
    this.#isReading = true;
    clearTimeout(this.#timer);
    const order = await readOrder(this.orderId).catch((error) => this.#complain(error));
    this.#isReading = false;
    try {
      if (order) this.#see(order);
    } finally { // also if showing it has failed
      this.#isStale ? this.look() : this.#plan();
    }
  }

  stop() {
    this.#isOver = true;
    this.#disconnect();
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }

  #see(order) {
    if (this.#isOver) return;
    this.on.order(order);
    if (new Story(order).isOver) {
      this.stop();
      this.on.link("over");
      return;
    }
    const isFinal = FINAL.includes(order.status);
    isFinal ? this.#closeStream() : this.#openStream();
    this.on.link(isFinal ? "looking" : this.#stream ? "live" : "polling");
  }

  #complain(error) {
    if (this.#isOver) return;
    if (error.status === 404) {
      this.stop();
      this.on.missing();
    } else this.on.link("away");
  }

  #plan() {
    if (this.#isOver || document.hidden) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.look(), this.#stream ? STREAMING_POLL_MS : this.#pollMs);
    this.#pollMs = this.#stream ? FIRST_POLL_MS : Math.min(LONGEST_POLL_MS, this.#pollMs * 1.3);
  }

  #openStream() {
    if (this.#stream || document.hidden || !window.EventSource) return;
    if (this.#streamFailures >= STREAM_FAILURES_ALLOWED) return;
    this.#stream = new EventSource(`/orders/${this.orderId}/events`);
    this.#stream.onmessage = () => this.look();
    this.#stream.onopen = () => { this.#streamFailures = 0; };
    this.#stream.onerror = () => this.#streamFailed();
  }

  /** Read the order at the next poll, which opens another stream. Not at once: a proxy may cut every stream. */
  #streamFailed() {
    this.#streamFailures += 1;
    this.#closeStream();
    this.#plan();
  }

  #closeStream() {
    this.#stream?.close();
    this.#stream = null;
  }

  #disconnect() {
    this.#closeStream();
    clearTimeout(this.#timer);
  }
}
