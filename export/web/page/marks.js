// What the model does not know: marked in the text, said below it, and offered for removal.

import { unknownIn, unknownSentence } from "./reading.js";

export class Marks {
  #sentence;
  #button;
  #box;
  #editor;
  #model = null;

  /** `box` has the sentence and the button. */
  constructor(box, editor) {
    this.#box = box;
    [this.#sentence, this.#button] = box.children;
    this.#editor = editor;
    this.#button.addEventListener("click", () => this.#remove());
    editor.addEventListener("edit", ({ detail }) => detail.byUser && this.#tell()); // Some of the marks may be gone.
  }

  /** Marks what a model does not know. */
  show(model) {
    this.#model = model;
    const unknown = this.#unknown();
    const before = this.#editor.marked;
    this.#editor.marked = unknown;
    const isSame = ({ start, end }, index) => start === before[index].start && end === before[index].end;
    if (unknown.length !== before.length || !unknown.every(isSame)) this.#editor.draw();
    this.#tell();
  }

  #unknown() {
    const { document, selection, text } = this.#editor;
    const unknown = unknownIn(this.#model, text, selection.start === selection.end ? selection.start : -1);
    // Two words that the model wrote without a space between them are no unknown word of the user.
    return unknown.filter(({ isSkipped, start, end }) => isSkipped || !document.tokenAt(start) || !document.tokenAt(end - 1));
  }

  /** Says what is marked. A screen reader reads each change aloud, so what is the same stays. */
  #tell() {
    const { marked } = this.#editor;
    this.#box.hidden = marked.length === 0;
    if (!marked.length) return;
    const skipped = marked.filter(({ isSkipped }) => isSkipped).length;
    this.#button.hidden = skipped === 0;
    change(this.#button, skipped > 1 ? "Remove them" : "Remove it");
    change(this.#sentence, unknownSentence(marked));
  }

  /** Removes what the model skips in the text as it is now, which need not be what was marked. */
  #remove() {
    this.#editor.removeParts(this.#unknown().filter(({ isSkipped }) => isSkipped));
  }
}

function change(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
