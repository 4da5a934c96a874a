// What the model does not know: marked in the text, said below it, and offered for removal.

import { unknownIn, unknownSentence } from "./reading.js";

export class Marks {
  #sentence;
  #button;
  #box;
  #editor;
  #model = null;
  #title = "";

  /** `box` has the sentence and the button. */
  constructor(box, editor) {
    this.#box = box;
    [this.#sentence, this.#button] = box.children;
    this.#editor = editor;
    this.#button.addEventListener("click", () => this.#remove());
    editor.addEventListener("edit", ({ detail }) => detail.byUser && this.#tell()); // Some of the marks may be gone.
  }

  /** Marks what a model, called `title`, does not know. */
  show(model, title) {
    [this.#model, this.#title] = [model, title];
    const unknown = this.#unknown();
    const before = this.#editor.marked;
    this.#editor.marked = unknown;
    const isSame = ({ start, end }, index) => start === before[index].start && end === before[index].end;
    if (unknown.length !== before.length || !unknown.every(isSame)) this.#editor.draw();
    this.#tell();
  }

  #unknown() {
    const { selection, text } = this.#editor;
    return unknownIn(this.#model, text, selection.start === selection.end ? selection.start : -1);
  }

  /** Says what is marked. A screen reader reads each change aloud, so what is the same stays. */
  #tell() {
    const { marked } = this.#editor;
    this.#box.hidden = marked.length === 0;
    if (!marked.length) return;
    const skipped = marked.filter(({ isSkipped }) => isSkipped).length;
    this.#button.hidden = skipped === 0;
    change(this.#button, skipped > 1 ? "Remove them" : "Remove it");
    change(this.#sentence, unknownSentence(this.#model, this.#title, marked));
  }

  /** Removes what the model skips in the text as it is now, which need not be what was marked. */
  #remove() {
    this.#editor.removeParts(this.#unknown().filter(({ isSkipped }) => isSkipped));
  }
}

function change(element, text) {
  if (element.textContent !== text) element.textContent = text;
}
