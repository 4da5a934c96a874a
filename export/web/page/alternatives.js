// What a token that the model wrote could have been, in the place of the suggestions.

import { percent } from "./elements.js";

const COUNT = 12;
const NAMES = new Map(Object.entries({ "": "the end", "\n": "new line", " ": "space", "\t": "tab", "\r": "carriage return" }));

/** Returns how a token is called: white space and the end have no letters. */
export function nameOf(text) {
  return NAMES.get(text) ?? text.trim();
}

/** Returns what is said above the alternatives. Those after an edited text are not those that there were when the token was written. */
function titleOf({ text, tokenId }, all) {
  const same = all.find((one) => one.tokenId === tokenId);
  const share = same ? `has ${percent(same.probability)} here` : "is not among the likeliest here";
  return `‘${nameOf(text)}’ ${share}. It could have been:`;
}

export class Alternatives {
  title = ""; // says what is shown
  #box;
  #list;
  #onPick;
  #abort = new AbortController(); // aborts the search that is no longer wanted

  /** `box` has the list, and a button that closes it; `onPick` gets the token and the alternative that is tapped. */
  constructor(box, onPick) {
    this.#box = box;
    this.#list = box.querySelector(".list");
    this.#onPick = onPick;
    box.addEventListener("pointerdown", (event) => event.preventDefault()); // The text keeps the focus.
  }

  get isOpen() {
    return !this.#box.hidden;
  }

  /**
   * Shows what could have been in the place of a token, after the text before it; with their ids if `hasIds`. Returns whether they are
   * shown: they are not if another call or `close` came first.
   */
  async open(model, before, token, hasIds) {
    this.#abort.abort();
    this.#abort = new AbortController();
    const { signal } = this.#abort;
    try {
      const all = await model.nextTokens(before, COUNT, { signal });
      signal.throwIfAborted();
      this.title = titleOf(token, all);
      this.#list.replaceChildren(...all.map((one) => this.#button(one, token, hasIds)));
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    }
    this.#list.scrollLeft = 0;
    this.#box.hidden = false;
    return true;
  }

  close() {
    this.#abort.abort();
    this.#box.hidden = true;
  }

  #button(alternative, token, hasIds) {
    const { text, tokenId, probability } = alternative;
    const button = document.createElement("button");
    button.type = "button";
    const [name, share] = [document.createElement("span"), document.createElement("small")];
    name.textContent = nameOf(text);
    name.classList.toggle("named", NAMES.has(text));
    share.textContent = hasIds ? `${percent(probability)} · ${tokenId}` : percent(probability);
    button.append(name, share);
    if (tokenId === token.tokenId) button.ariaCurrent = "true";
    button.addEventListener("click", () => this.#onPick(token, alternative));
    return button;
  }
}
