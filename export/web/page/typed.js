// Which parts of a text the user has typed, until they are learned from. Pure.

import { editBetween } from "./document.js";

// Each begins with the white space before it; `end` is empty if it is not finished.
const SENTENCE = /[^\n]*?(?<end>[.!?…]+["'’”»)\]]*(?=\s)|[。！？]+[」』”’]*|\n|$)/gu;
const LINE = /[^\n]*(?<end>\n|$)/gu;

/** Returns ranges, `{start, end}` in order, after an edit of the text; what was typed becomes one of them. */
export function rangesAfter(ranges, { start, end, insert }, isTyped) {
  const shift = insert.length - (end - start);
  const before = ranges.map((one) => ({ start: one.start, end: Math.min(one.end, start) }));
  const typed = isTyped ? [{ start, end: start + insert.length }] : [];
  const after = ranges.map((one) => ({ start: Math.max(one.start, end) + shift, end: one.end + shift }));
  const joined = [];
  for (const one of [...before, ...typed, ...after]) {
    if (one.start >= one.end) continue;
    if (joined.at(-1)?.end === one.start) joined.at(-1).end = one.end;
    else joined.push(one);
  }
  return joined;
}

/**
 * Returns the finished sentences of a text, `{start, end}` without the white space around them, or its finished lines.
 * One that the selection touches may still be changed.
 */
export function finishedParts(text, selection, byLine) {
  const found = [];
  for (const { index, 0: part, groups } of text.matchAll(byLine ? LINE : SENTENCE)) {
    const [start, end] = [index + part.length - part.trimStart().length, index + part.trimEnd().length];
    if (groups.end && start < end && (selection.end < start || selection.start > end)) found.push({ start, end });
  }
  return found;
}

/** Follows a text, and gives out each finished part that the user has typed as a whole, once. */
export class Typed {
  #text = "";
  #ranges = []; // what was typed and not given out

  /** Begins to follow a text. Nothing of it counts as typed. */
  begin(text) {
    [this.#text, this.#ranges] = [text, []];
  }

  /** Follows a change of the text. */
  follow(text, caret, isTyped) {
    this.#ranges = rangesAfter(this.#ranges, editBetween(this.#text, text, caret), isTyped);
    this.#text = text;
  }

  /** Returns what was typed and is finished, as texts: neighbours are one. `canLearn(part)` leaves parts out. */
  take(selection, { byLine, canLearn }) {
    if (!this.#ranges.length) return [];
    const isTyped = ({ start, end }) => this.#ranges.some((one) => one.start <= start && one.end >= end);
    const parts = finishedParts(this.#text, selection, byLine).filter(isTyped);
    const groups = [];
    for (const part of parts.filter(({ start, end }) => canLearn(this.#text.slice(start, end)))) {
      const last = groups.at(-1);
      if (last && this.#text.slice(last.end, part.start).trim() === "") last.end = part.end;
      else groups.push({ ...part });
    }
    for (const { start, end } of parts) {
      const nothing = { start, end, insert: this.#text.slice(start, end) };
      this.#ranges = rangesAfter(this.#ranges, nothing, false);
    }
    this.#ranges = this.#ranges.filter(({ start, end }) => this.#text.slice(start, end).trim() !== "");
    return groups.map(({ start, end }) => this.#text.slice(start, this.#text[end] === "\n" ? end + 1 : end));
  }
}
