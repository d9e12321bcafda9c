// Says at once that this page no longer hears from its server. Until it does, the page is grey and takes no clicks: the
// socket would keep them, and send them whenever it is back.

const SILENCE_MS = 4000; // an update comes every second
const CHECK_MS = 500;

export default {
  data: () => ({ heardAt: Date.now(), since: null, focused: null }),
  mounted() {
    setTimeout(() => { // the page's own script opens the socket after this
      window.socket.onAny(this.hear);
      window.socket.on("disconnect", this.lose);
      this.timer = setInterval(() => Date.now() - this.heardAt > SILENCE_MS && this.lose(), CHECK_MS);
    });
  },
  unmounted() {
    clearInterval(this.timer);
  },
  methods: {
    hear() {
      this.heardAt = Date.now();
      if (this.since === null) return;
      this.since = null;
      this.stop(false);
      this.focused?.focus();
    },
    lose() {
      if (this.since !== null) return;
      this.since = new Date(this.heardAt);
      this.focused = document.activeElement;
      this.stop(true);
    },
    stop(isLost) {
      document.body.classList.toggle("is-lost", isLost);
      for (const element of document.querySelectorAll(".room, .heading, .q-dialog")) element.inert = isLost;
    },
    words() {
      const clock = { hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" };
      return `No connection to the control room since ${this.since.toLocaleTimeString(undefined, clock)}. ` +
        "What you see is from then; it goes on by itself once the connection is back.";
    },
  },
  render() {
    return Vue.h("div", { class: "connection", role: "alert" }, this.since === null ? [] : [Vue.h("p", this.words())]);
  },
};
