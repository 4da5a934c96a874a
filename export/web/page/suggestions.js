// The row of suggestions: three places that never move.

import { percent } from "./elements.js";

const LONGEST = 24; // characters of a word

function shortened(word) {
  return word.length > LONGEST ? `…${[...word].slice(1 - LONGEST).join("")}` : word;
}

export class SuggestionRow {
  #box;
  #onPick;
  #words = [];
  #abort = new AbortController(); // aborts the search that is no longer wanted
  #asked = null; // the model, the text and the space before the words that are wanted
  #shown = null; // the same of the words that are shown

  /** `box` has the buttons; `onPick` gets what a tap appends to the text. */
  constructor(box, onPick) {
    this.#box = box;
    this.#onPick = onPick;
    [...box.children].forEach((button, index) => {
      button.append(document.createElement("span"), document.createElement("small"));
      // The text keeps the focus, and the phone its keyboard.
      button.addEventListener("pointerdown", (event) => event.preventDefault());
      button.addEventListener("click", () => this.#pick(index));
    });
    this.clear();
  }

  /** Seeks and shows the likely next words of a text, after a space if it needs one. The words before stay until they are there. */
  async seek(model, before, space = "") {
    const last = this.#asked;
    if (last?.model === model && last.before === before && last.space === space) return;
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    const asked = { model, before, space };
    this.#asked = asked;
    this.#box.ariaBusy = "true";
    try {
      const words = await this.#seekWords(asked, signal);
      if (signal.aborted) return;
      this.#show(words, asked);
    } catch (error) {
      if (signal.aborted) return; // A later search follows, or the model was closed.
      this.clear();
      throw error;
    }
  }

  /** Returns the likely next words. After a whole word with few longer ones, the places that are left have the words after it. */
  async #seekWords({ model, before, space }, signal) {
    const places = this.#box.children.length;
    const words = await model.suggest(before + space, places, { signal });
    const isAfterWord = space === "" && /[\p{L}\p{N}]$/u.test(before) && model.vocabulary.unknown(" ").length === 0;
    if (words.length === places || !isAfterWord) return words;
    const next = await model.suggest(`${before} `, places - words.length, { signal });
    return [...words, ...next.map((word) => ({ ...word, insert: ` ${word.insert}` }))];
  }

  /** Lets the next call of `seek` seek anew, because the model has changed. */
  renew() {
    this.#abort.abort();
    this.#asked = null;
  }

  /** Shows nothing. */
  clear() {
    this.#abort.abort();
    this.#asked = null;
    this.#show([], null);
  }

  /** A word of the text before the last change does not fit any more. */
  #pick(index) {
    const word = this.#words[index];
    if (word && this.#shown === this.#asked) this.#onPick(this.#shown.space + word.insert);
  }

  #show(words, asked) {
    this.#words = words;
    this.#shown = asked;
    [...this.#box.children].forEach((button, index) => {
      const word = words[index];
      button.classList.toggle("empty", !word);
      const [name, share] = button.children;
      name.textContent = word ? shortened(word.text) : "";
      share.textContent = word ? percent(word.probability) : "";
    });
    this.#box.ariaBusy = "false";
  }
}
