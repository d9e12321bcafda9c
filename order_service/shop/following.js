// Follows one order until nothing more will happen to it.
//
// The live stream says when there is something new; then the order is read. Without a stream it is read again and
// again, and with one too, only seldom: a stream may be cut somewhere on the way without anybody noticing.

import { readOrder } from "./api.js";
import { Story } from "./story.js";

const STREAMING_POLL_MS = 15_000;
const FIRST_POLL_MS = 1000;
const LONGEST_POLL_MS = 5000;
const STREAM_FAILURES_ALLOWED = 3;

export class Following {
  #stream = null;
  #streamFailures = 0;
  #timer = null;
  #pollMs = FIRST_POLL_MS;
  #isReading = false;
  #isStale = false;
  #isOver = false;
  #onVisibility = () => (document.hidden ? this.#rest() : this.look());

  /** `on.order(order)`; `on.missing()`: there is none; `on.link(how)`: "live", "polling", "looking" (for the last
   * news), "away" or "over". */
  constructor(orderId, on) {
    this.orderId = orderId;
    this.on = on;
    // A browser keeps six connections to a server: the tabs that nobody looks at must not use them up.
    document.addEventListener("visibilitychange", this.#onVisibility);
  }

  /** Read the order now. Called while that is under way, it is read once more afterwards. */
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
    } finally { // whatever went wrong with showing it, it is looked at again
      this.#isStale ? this.look() : this.#plan();
    }
  }

  stop() {
    this.#isOver = true;
    this.#rest();
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }

  #see(order) {
    if (this.#isOver) return;
    this.on.order(order);
    if (new Story(order).isSettled) {
      this.stop();
      this.on.link("over");
      return;
    }
    const isFinal = order.status === "confirmed" || order.status === "declined"; // the service ends the stream there
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

  /** Whatever the reason: read the order in a moment, and open another stream once that works. Not at once: a proxy
   * that cuts every stream must not make us run in circles. */
  #streamFailed() {
    this.#streamFailures += 1;
    this.#closeStream();
    this.#plan();
  }

  #closeStream() {
    this.#stream?.close();
    this.#stream = null;
  }

  #rest() {
    this.#closeStream();
    clearTimeout(this.#timer);
  }
}
