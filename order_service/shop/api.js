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

export const readMenu = async () => (await ask("/menu")).body;

export const readOrder = async (orderId) => (await ask(`/orders/${encodeURIComponent(orderId)}`)).body;

/** A page of orders, newest first: `{orders, next}`. */
export async function readOrders(limit, after) {
  const query = new URLSearchParams({ limit, ...(after ? { after } : {}) });
  return (await ask(`/orders?${query}`)).body;
}

/** Places it; the same key and the same order give the same answer. `replayed`: this was not the first time. */
export async function placeOrder(order, key) {
  const { body, headers } = await ask("/orders", {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": `"${key}"` },
    body: JSON.stringify(order),
  });
  return { ...body, replayed: headers.has("Idempotent-Replayed") };
}

async function ask(path, options = {}) {
  let answer, body;
  try {
    answer = await fetch(path, { ...options, cache: "no-store", signal: AbortSignal.timeout(ANSWER_WITHIN_MS) });
    body = await answer.text();
  } catch (error) {
    throw new NoAnswer(error.message);
  }
  if (answer.ok) return { body: JSON.parse(body), headers: answer.headers };
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
