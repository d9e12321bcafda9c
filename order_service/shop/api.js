// The order service's API, as the page uses it.

import { duration } from "./format.js";

const ANSWER_WITHIN_MS = 10_000;

/** There was no answer. The service may have carried out the request all the same. */
export class NoAnswer extends Error {}

/** Why there is no answer, in a sentence. `sinceMs`: when that began, in ms since 1970. */
export function silence(sinceMs = Date.now()) {
  const lasted = Date.now() - sinceMs;
  const since = lasted < 1000 ? "" : duration(lasted);
  if (!navigator.onLine) return `Your browser ${since ? `has been offline for ${since}` : "is offline"}.`;
  return since ? `The order service has not answered for ${since}.` : "The order service does not answer.";
}

/** The service refused: status, sentence and fields of its problem (RFC 9457). */
export class Refused extends Error {
  constructor(status, problem, retryAfterSeconds) {
    super(problem.detail ?? `the answer was ${status}`);
    this.status = status;
    this.fields = problem.errors ?? [];
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether the same request may succeed a little later. */
  get mayPass() {
    return this.status === 408 || this.status === 429 || this.status >= 500;
  }
}

export const readMenu = () => ask("/menu");

export const readOrder = (orderId) => ask(`/orders/${encodeURIComponent(orderId)}`);

/** Where the control room is, if anywhere: `{control_room_url}`. */
export const readLinks = () => ask("/shop/links.json");

/** The same order with the same idempotency key gets the first answer again. `signal` breaks it off. */
export function placeOrder(order, key, signal) {
  return ask("/orders", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": `"${key}"` },
    body: JSON.stringify(order),
    signal,
  });
}

/** Repeating it changes nothing. */
export const cancelOrder = (orderId) => ask(`/orders/${encodeURIComponent(orderId)}/cancel`, { method: "POST" });

async function ask(path, { signal, ...options } = {}) {
  const signals = [AbortSignal.timeout(ANSWER_WITHIN_MS), ...(signal ? [signal] : [])];
  let answer, body;
  try {
    answer = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.any(signals) });
    body = await answer.text();
  } catch (error) {
    throw new NoAnswer(error.message);
  }
  if (answer.ok) return JSON.parse(body);
  throw new Refused(answer.status, problemIn(body), Number(answer.headers.get("Retry-After")) || 0);
}

/** Empty if the body is no JSON, as from a proxy between the page and the service. */
function problemIn(body) {
  try {
    return JSON.parse(body) ?? {};
  } catch {
    return {};
  }
}
