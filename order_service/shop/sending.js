// Sends an order until there is an answer, at most six times. Each try has the same key, so it is one order.

import { NoAnswer, placeOrder } from "./api.js";

const WAITS_SECONDS = [1, 2, 4, 8, 15];

/** The customer has pressed "Stop trying". */
export class Stopped extends Error {}

export class Sending {
  #pause = null;

  /** `onTrouble(error, seconds)` is called before each wait. */
  constructor(onTrouble) {
    this.onTrouble = onTrouble;
  }

  /** The answer. Throws `Refused`, `NoAnswer` after the last try, or `Stopped`. */
  async send(order, key) {
    for (const wait of WAITS_SECONDS) {
      try {
        return await placeOrder(order, key);
      } catch (error) {
        if (!(error instanceof NoAnswer || error.mayPass)) throw error;
        const seconds = Math.max(wait, error.retryAfterSeconds ?? 0);
        this.onTrouble(error, seconds);
        await this.#wait(seconds);
      }
    }
    return placeOrder(order, key);
  }

  /** Do not wait any longer for the next try. */
  tryNow() { this.#pause?.resolve(); }

  stop() { this.#pause?.reject(new Stopped()); }

  async #wait(seconds) {
    let timer;
    try {
      await new Promise((resolve, reject) => {
        this.#pause = { resolve, reject };
        timer = setTimeout(resolve, seconds * 1000);
      });
    } finally {
      clearTimeout(timer);
      this.#pause = null;
    }
  }
}
