// Whether an order can be cancelled, what that would do to the money, and the button for it.

import { cancelOrder, NoAnswer, silence } from "./api.js";
import { element, time } from "./dom.js";
import { money, ticketNumber } from "./format.js";

const CALLED_OFF = ["cancelling", "cancelled", "refunded"];
const LONGEST_TIMER_MS = 2 ** 31 - 1; // a longer one would fire at once

export class Cancelling {
  #order = null;
  #asked = null; // the id of the order that the dialog is about
  #timer = null;
  #tabs = channel();

  /** `question` asks; `onChange(orderId)`: the order may have changed, so read it again. */
  constructor(question, onChange) {
    this.question = question;
    this.onChange = onChange;
    this.#tabs?.addEventListener("message", ({ data }) => onChange(data));
  }

  /** What the ticket says of it: a button, and a note on until when it can be used, or why there is none. */
  parts(order) {
    this.#order = order;
    clearTimeout(this.#timer);
    if (this.question.isOpen && this.#asked === order.order_id) this.question.show(this.#words());
    const { cancellation } = order;
    if (!cancellation || CALLED_OFF.includes(order.status)) return {};
    if (!cancellation.possible) return { note: whyNot(order) };
    const { until } = cancellation;
    if (until) this.#lookOnceOver(new Date(until) - Date.now());
    return {
      note: until && ["It can be cancelled until ", time(until), "."],
      button: element("button", { type: "button", class: "small", id: "cancel", onclick: () => this.#ask() }, "Cancel the order"),
    };
  }

  #lookOnceOver(leftMs) {
    if (leftMs < 0 || leftMs > LONGEST_TIMER_MS) return;
    const { order_id } = this.#order;
    this.#timer = setTimeout(() => this.onChange(order_id), leftMs + 500);
  }

  #ask() {
    const { order_id } = this.#order;
    this.#asked = order_id;
    this.question.ask({ ...this.#words(), act: () => this.#cancel(order_id), returnTo: ["cancel", "headline"] });
  }

  #words() {
    const heading = `Cancel order No. ${ticketNumber(this.#order.order_id)}?`;
    if (CALLED_OFF.includes(this.#order.status)) return { heading, words: ["It is cancelled already."], no: "Close" };
    if (!this.#order.cancellation?.possible) return { heading, words: whyNot(this.#order), no: "Close" };
    return { heading, words: [effect(this.#order)], yes: "Cancel the order", no: "Keep it" };
  }

  async #cancel(orderId) {
    try {
      await cancelOrder(orderId);
      this.#tabs?.postMessage(orderId);
    } catch (error) {
      throw new Error(trouble(error), { cause: error });
    } finally {
      this.onChange(orderId);
    }
  }
}

/** To the other tabs; null where the browser forbids it, as it forbids storage. */
function channel() {
  try {
    return new BroadcastChannel("order-rail.cancelled");
  } catch {
    return null;
  }
}

function effect({ cancellation, status, total }) {
  if (cancellation.effect === "refund") return `${money(total)} was charged, and goes back to the card. The kitchen is told to stop.`;
  if (status === "stalled") return "It could not be charged, and never will be.";
  return "Nothing has been charged yet, and nothing will be. Should the bank be charging it at this moment, the money comes back.";
}

function whyNot({ cancellation }) {
  const { until, why_not: reason } = cancellation ?? {};
  if (until) return ["It can't be cancelled any more: that was possible until ", time(until), "."];
  return [`It can't be cancelled: ${reason ?? "no reason was given"}.`];
}

function trouble(error) {
  if (error instanceof NoAnswer) return `${silence()} It may be cancelled all the same: press again, and it is cancelled once.`;
  return error.status >= 500 ? `It could not be cancelled just now: ${error.message}` : error.message;
}
