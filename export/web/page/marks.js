// What the model does not know: marked in the text, said below it, and offered for removal.

import { skipsUnknown, unknownIn, unknownSentence } from "./reading.js";

export class Marks {
  #box;
  #editor;

  /** `box` has the sentence and the button. */
  constructor(box, editor) {
    this.#box = box;
    this.#editor = editor;
    box.lastElementChild.addEventListener("click", () => this.#remove());
  }

  /** Marks what a model, called `title`, does not know. */
  show(model, title) {
    const { selection, text, marked } = this.#editor;
    const unknown = unknownIn(model, text, selection.start === selection.end ? selection.start : -1);
    this.#editor.marked = unknown;
    if (unknown.length || marked.length) this.#editor.draw();
    this.#box.hidden = unknown.length === 0;
    if (!unknown.length) return;
    this.#box.firstElementChild.textContent = unknownSentence(model, title, unknown);
    this.#box.lastElementChild.textContent = unknown.length > 1 ? "Remove them" : "Remove it";
    this.#box.lastElementChild.hidden = !skipsUnknown(model);
  }

  #remove() {
    const group = `removed ${performance.now()}`;
    for (const { start, end } of this.#editor.marked.toReversed()) this.#editor.replace(start, end, "", { group });
  }
}
