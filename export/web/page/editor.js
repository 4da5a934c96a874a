// The text field with what lies behind it: typing, the caret, undo and redo.

import { Backdrop, partsOf } from "./backdrop.js";
import { Document, editBetween, movedRanges } from "./document.js";

const TAKES_THE_SPACE = /^[\s.,;:!?)\]}’”»…]/; // typed after a word that was tapped
const FOREIGN = /^insertFrom(?:Paste|Drop|Yank)/; // text that need not be of the user

/** Returns an edit without the space before it, if a tap had put it there and what is typed takes its place. */
export function withoutSpace(edit, space) {
  const takes = edit.start === space && edit.end === space && TAKES_THE_SPACE.test(edit.insert);
  return takes ? { ...edit, start: space - 1 } : edit;
}

/**
 * Keeps a Document and a textarea the same. Events: "edit" after each change, with the details `byUser` and `isTyped`,
 * which a suggestion that was tapped is too; "caret" when the caret moved; "tap" with the `token` that was tapped.
 */
export class Editor extends EventTarget {
  document = new Document();
  marked = []; // ranges that the model does not know
  view = { colours: false, separate: false };
  #field;
  #backdrop;
  #selection = { start: 0, end: 0 };
  #space = -1; // the offset after a space that a tap on a suggestion put there

  constructor(field, backdrop) {
    super();
    this.#field = field;
    this.#backdrop = new Backdrop(backdrop);
    field.addEventListener("input", (event) => this.#onInput(event));
    field.addEventListener("beforeinput", (event) => this.#onBeforeInput(event));
    field.addEventListener("click", (event) => this.#onClick(event));
    document.addEventListener("selectionchange", () => this.#onSelection());
    field.addEventListener("selectionchange", () => this.#onSelection());
  }

  get text() {
    return this.document.text;
  }

  /** The selection, which a text field without the focus has too: that of the last change. */
  get selection() {
    return this.#selection;
  }

  /** Shows another document, without its history. */
  load(other) {
    this.document = other;
    this.marked = [];
    this.#space = -1;
    this.#fill(other.text.length);
  }

  /** Replaces a part of the text, and puts the caret after it. The other options are those of `Document.replace`. */
  replace(start, end, insert, { isTyped = false, ...options } = {}) {
    this.#space = -1;
    const caret = this.document.replace(start, end, insert, options);
    this.#moveMarks(start, end, this.text.slice(start, caret));
    this.#fill(caret, isTyped);
  }

  /** Removes parts of the text, `{start, end}` in order, as one step of undo. The caret stays where it is in what is left. */
  removeParts(parts) {
    const caret = this.#selection.start;
    const before = parts.map(({ start, end }) => Math.max(0, Math.min(end, caret) - start));
    this.#space = -1;
    this.document.removeParts(parts);
    this.marked = [];
    this.#fill(caret - before.reduce((sum, one) => sum + one, 0));
  }

  /** Appends what the model wrote. A caret at the end stays at the end, another one where it is. */
  append(insert, options) {
    const { length } = this.text;
    const { start, end } = this.#selection;
    this.#space = -1;
    this.document.replace(length, length, insert, options);
    if (this.#hasFocus()) this.#field.setRangeText(this.text.slice(length), length, length, "preserve");
    else this.#field.value = this.text; // moves the caret to the end
    if (start === length || !this.#hasFocus()) this.#select(this.text.length, this.text.length);
    else this.#select(start, end);
    this.draw();
    this.#tell("edit", { byUser: false });
  }

  /** Puts a suggestion at the caret, with a space after it that punctuation takes back. */
  insertWord(insert) {
    const { start, end } = this.#selection;
    const space = /^\s/.test(this.text.slice(end)) ? "" : " ";
    this.replace(start, end, insert + space, { isTyped: true });
    if (space) this.#space = start + insert.length + 1;
  }

  /**
   * Takes back the space at the end of the text: one that a tap put there or, `alsoTyped`, one that was typed. The words of a model of
   * words bring theirs.
   */
  takeSpaceBack(group, { alsoTyped = false } = {}) {
    const { length } = this.text;
    const isTaken = (length > 0 && this.#space === length) || (alsoTyped && /\S $/.test(this.text));
    if (isTaken) this.replace(length - 1, length, "", { group });
  }

  undo() {
    this.#move(this.document.undo());
  }

  redo() {
    this.#move(this.document.redo());
  }

  /** Draws what lies behind the text. */
  draw() {
    this.#backdrop.show(this.text, partsOf(this.text, this.document.written, this.marked, this.view));
  }

  #moveMarks(start, end, insert) {
    this.marked = movedRanges(this.marked, start, end, insert);
  }

  #move(caret) {
    if (caret === null) return;
    this.marked = [];
    this.#space = -1;
    this.#fill(caret);
  }

  #fill(caret, isTyped = false) {
    this.#field.value = this.text;
    this.#select(caret, caret);
    this.draw();
    this.#tell("edit", { byUser: true, isTyped });
  }

  #select(start, end) {
    this.#selection = { start, end };
    if (this.#hasFocus()) this.#field.setSelectionRange(start, end); // Without the focus, some browsers would open the keyboard.
  }

  #hasFocus() {
    return document.activeElement === this.#field;
  }

  #onInput({ inputType }) {
    const field = this.#field;
    const isTyped = !FOREIGN.test(inputType);
    const edit = editBetween(this.text, field.value, field.selectionEnd);
    const meant = withoutSpace(edit, this.#space);
    this.#space = -1;
    this.document.type(meant.start, meant.end, meant.insert, performance.now());
    this.#moveMarks(meant.start, meant.end, meant.insert);
    if (meant !== edit) return this.#fill(meant.start + meant.insert.length, isTyped);
    this.#selection = { start: field.selectionStart, end: field.selectionEnd };
    this.draw();
    this.#tell("edit", { byUser: true, isTyped });
  }

  /** The browser's own history does not know what the model wrote. */
  #onBeforeInput(event) {
    if (event.inputType !== "historyUndo" && event.inputType !== "historyRedo") return;
    event.preventDefault();
    if (event.inputType === "historyUndo") this.undo();
    else this.redo();
  }

  #onSelection() {
    if (!this.#hasFocus()) return;
    const { selectionStart: start, selectionEnd: end } = this.#field;
    if (start === this.#selection.start && end === this.#selection.end) return;
    this.#selection = { start, end };
    this.#tell("caret", {});
  }

  #onClick({ clientX, clientY }) {
    this.#onSelection(); // The browser tells of the new caret later.
    const { start, end } = this.#selection;
    const offset = start === end ? this.#backdrop.characterAt(start, clientX, clientY) : -1;
    const token = offset < 0 ? null : this.document.tokenAt(offset);
    this.#tell("tap", { token });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
