// The row of suggestions: three places that never move.

const LONGEST = 24; // characters of a word

/** Returns a probability as a percentage. */
export function percent(probability) {
  return probability < 0.005 ? "<1%" : `${Math.round(probability * 100)}%`;
}

function shortened(word) {
  return word.length > LONGEST ? `…${[...word].slice(1 - LONGEST).join("")}` : word;
}

export class SuggestionRow {
  #box;
  #words = [];
  #space = ""; // before the words that are shown
  #abort = new AbortController(); // aborts the search that is no longer wanted
  #asked = null; // the text and the model of the words that are shown or sought

  /** `box` has the buttons; `onPick` gets what a tap appends to the text. */
  constructor(box, onPick) {
    this.#box = box;
    [...box.children].forEach((button, index) => {
      button.append(document.createElement("span"), document.createElement("small"));
      // The text keeps the focus, and the phone its keyboard.
      button.addEventListener("pointerdown", (event) => event.preventDefault());
      button.addEventListener("click", () => this.#words[index] && onPick(this.#space + this.#words[index].insert));
    });
    this.clear();
  }

  /** Seeks and shows the likely next words of a text, after a space if it needs one. The words before stay until they are there. */
  async seek(model, before, space = "") {
    const text = before + space;
    if (this.#asked?.model === model && this.#asked.text === text) return;
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    this.#asked = { model, text };
    this.#box.ariaBusy = "true";
    try {
      const words = await model.suggest(text, this.#box.children.length, { signal });
      if (signal.aborted) return;
      this.#space = space;
      this.#show(words);
    } catch (error) {
      if (signal.aborted) return; // A later search follows, or the model was closed.
      this.clear();
      throw error;
    }
  }

  /** Shows nothing. */
  clear() {
    this.#abort.abort();
    this.#asked = null;
    this.#show([]);
  }

  #show(words) {
    this.#words = words;
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
