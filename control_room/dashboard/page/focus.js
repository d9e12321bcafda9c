// Gives the focus back to a button that was drawn anew: a list that changes must not lose the keyboard's place.

export default {
  mounted() {
    document.addEventListener("focusin", this.note);
    this.observer = new MutationObserver(this.restore);
    this.observer.observe(document.body, { childList: true, subtree: true });
  },
  unmounted() {
    document.removeEventListener("focusin", this.note);
    this.observer.disconnect();
  },
  methods: {
    note({ target }) {
      this.focused = target;
    },
    restore() {
      const name = this.focused?.ariaLabel;
      if (!name || this.focused.isConnected || document.activeElement !== document.body) return;
      const again = [...document.querySelectorAll("button")].find((button) => button.ariaLabel === name);
      again?.focus({ preventScroll: true });
    },
  },
  render: () => null,
};
