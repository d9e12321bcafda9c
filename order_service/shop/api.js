// The order service's API, as the page uses it.

const ANSWER_WITHIN_MS = 10_000;

/** Nobody answered. What was asked for may have been done all the same. */
export class NoAnswer extends Error {}

/** The service said no: a problem (RFC 9457) with its status, its sentence and the fields concerned. */
export class Refused extends Error {
  constructor(status, problem, retryAfterSeconds) {
    super(problem.detail ?? `the answer was ${status}`);
    this.status = status;
    this.fields = problem.errors ?? [];
    this.retryAfterSeconds = retryAfterSeconds;
  }

  /** Whether the same request may be answered otherwise a little later. */
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

/** Places it; the same key and the same order give the same answer. */
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

/** What stands between the page and the service may answer in its own words: then there is no problem to read. */
function problemIn(body) {
  try {
    return JSON.parse(body) ?? {};
  } catch {
    return {};
  }
}
