// Money, durations and times as people read them, in the browser's language.

/** `{amount_minor: 950, currency: "EUR"}` as "€9.50". */
export function money({ amount_minor, currency }) {
  const format = new Intl.NumberFormat(undefined, { style: "currency", currency });
  return format.format(amount_minor / 10 ** format.resolvedOptions().maximumFractionDigits);
}

export function duration(milliseconds) {
  const ms = Math.max(1, Math.round(milliseconds));
  if (ms < 1000) return `${ms} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The time of day in the viewer's zone; with the day, unless that is today. */
export function clock(timestamp) {
  const at = new Date(timestamp);
  const isToday = at.toDateString() === new Date().toDateString();
  return at.toLocaleString(undefined, { timeStyle: "medium", ...(isToday ? {} : { dateStyle: "medium" }) });
}

/** Day, time and zone: the tooltip of every time on the page. */
export const fullTime = (timestamp) => new Date(timestamp).toLocaleString(undefined, { dateStyle: "full", timeStyle: "long" });

export function ordinal(count) {
  const ending = { one: "st", two: "nd", few: "rd", other: "th" };
  return count + ending[new Intl.PluralRules("en", { type: "ordinal" }).select(count)];
}

/** What people call an order: the end of its id, since the beginning is the time and much the same for all. */
export const ticketNumber = (orderId) => orderId.slice(-6).toUpperCase();

export function list(words) {
  return new Intl.ListFormat("en").format(words);
}
