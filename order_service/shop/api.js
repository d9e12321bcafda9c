// The order service's API, as the page uses it.

const ANSWER_WITHIN_MS = 10_000;

/** There was no answer. The service may have carried out the request all the same. */
export class NoAnswer extends Error {}

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

/** A page of orders, newest first: `{orders, next}`. */
export function readOrders(limit, after) {
  const query = new URLSearchParams({ limit, ...(after ? { after } : {}) });
  return ask(`/orders?${query}`);
}

/** The same order with the same idempotency key gets the first answer again. */
export function placeOrder(order, key) {
  return ask("/orders", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": `"${key}"` },
    body: JSON.stringify(order),
  });
}

async function ask(path, options = {}) {
  let answer, body;
  try {
    answer = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
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
