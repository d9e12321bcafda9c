// The dialog that asks before something that can't be undone.

import { byId, element, ignorePointerForAMoment, say } from "./dom.js";

export class Question {
  #dialog = byId("question");
  #act = null;
  #returnTo = [];
  #isBusy = false;

  constructor() {
    for (const kind of ["mousedown", "click"]) this.#dialog.addEventListener(kind, ignoreSecond, true);
    byId("question-no").addEventListener("click", () => this.#dialog.close());
    byId("question-yes").addEventListener("click", () => this.#yes());
    this.#dialog.addEventListener("close", () => this.#closed());
  }

  get isOpen() { return this.#dialog.open; }

  /** Ask. At yes `act` is called; what it throws is shown here, else the dialog closes. Then the focus returns to the
   * first of these elements that can have it, since what opened the dialog may be gone. */
  ask({ act, returnTo, ...words }) {
    this.#act = act;
    this.#returnTo = returnTo;
    this.show(words);
    say(byId("question-trouble"), "");
    this.#dialog.showModal();
    byId("question-no").focus(); // the safer one
  }

  /** `words`: texts and elements. Without `yes` there is nothing to do but to read. */
  show({ heading, words, yes, no }) {
    byId("question-heading").textContent = heading;
    const said = element("p", {}, ...words);
    if (byId("question-words").textContent !== said.textContent) byId("question-words").replaceChildren(said);
    say(byId("question-yes"), yes);
    byId("question-no").textContent = no;
    if (!yes) say(byId("question-trouble"), ""); // the words say it
  }

  #closed() {
    ignorePointerForAMoment();
    for (const id of this.#returnTo) {
      byId(id)?.focus();
      if (document.activeElement?.id === id) break;
    }
  }

  async #yes() {
    if (this.#isBusy) return;
    this.#busy(true);
    say(byId("question-trouble"), "");
    try {
      await this.#act();
      this.#dialog.close();
    } catch (error) {
      say(byId("question-trouble"), error.message);
    } finally {
      this.#busy(false);
    }
  }

  #busy(isBusy) {
    this.#isBusy = isBusy;
    byId("question-yes").setAttribute("aria-disabled", isBusy);
  }
}

/** The second click of the double click that has opened the dialog, or that has answered. */
function ignoreSecond(event) {
  if (event.detail < 2) return;
  event.preventDefault(); // the focus stays
  event.stopPropagation();
}
