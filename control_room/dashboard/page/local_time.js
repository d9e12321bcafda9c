// A text whose RFC 3339 times are shown in the viewer's own time zone, with its name; the full time is in a tooltip.
// `label`: shown in place of each time.

const TIME = /(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))/;
const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" };
const DAY = { day: "numeric", month: "short", year: "numeric" };

function time(text, label) {
  const at = new Date(text);
  const isToday = at.toDateString() === new Date().toDateString();
  const title = at.toLocaleString(undefined, { dateStyle: "full", timeStyle: "full" });
  const clock = at.toLocaleString(undefined, isToday ? CLOCK : { ...DAY, ...CLOCK });
  return Vue.h("time", { datetime: text, title }, label ?? clock);
}

export default {
  props: { words: String, tag: String, label: String },
  render() {
    const parts = this.words.split(TIME);
    return Vue.h(this.tag, parts.map((part, place) => (place % 2 ? time(part, this.label) : part)));
  },
};
