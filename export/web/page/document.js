// A text, who wrote each part of it, and its history. It knows nothing of the page.

const PAUSE = 1000; // milliseconds without typing, after which the next character begins another step
const MOST_STEPS = 1000;

/** Returns the first index from which on `isAfter` holds for the items of a sorted list. */
function firstIndex(items, isAfter) {
  let [low, high] = [0, items.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (isAfter(items[middle])) high = middle;
    else low = middle + 1;
  }
  return low;
}

/** A text field holds each line break as one line feed; offsets in it are those of this text. */
function withLineFeeds(text) {
  return text.replace(/\r\n?/g, "\n");
}

/** Returns where ranges are after a part of the text was replaced; those that it changed are left out. */
export function movedRanges(ranges, start, end, insert) {
  const shift = insert.length - (end - start);
  const kept = ranges.filter((one) => one.end <= start || one.start >= end);
  return kept.map((one) => (one.end <= start ? one : { ...one, start: one.start + shift, end: one.end + shift }));
}

/** Returns what changed from one text to another, as `{start, end, insert}`; the caret is where it is after the change. */
export function editBetween(before, after, caret) {
  let [end, stop] = [before.length - (after.length - caret), caret];
  if (end < 0 || before.slice(end) !== after.slice(caret)) [end, stop] = [before.length, after.length];
  let start = 0;
  while (start < end && start < stop && before[start] === after[start]) start += 1;
  return { start, end, insert: after.slice(start, stop) };
}

/**
 * A text that remembers which tokens the model wrote. A token that is changed is no longer the model's.
 *
 * The tokens in `written` are `{start, end, tokenId, probability, run}`, in order; `run` is the number of the call of Write.
 */
export class Document {
  text = "";
  written = [];
  #done = []; // steps, each a list of edits
  #undone = [];
  #typed = null; // the last edit by typing: its group, kind, end and time
  #groups = 0;

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }

  /**
   * Replaces a part of the text; returns where the caret belongs. `tokens`, `{text, tokenId, probability, run}`, say that the model
   * wrote it: `insert` is the text of all of them. Changes of the same `group`, one after the other, are undone together.
   */
  replace(start, end, insert, { tokens = [], group = null } = {}) {
    const pieces = tokens.map(({ text }) => withLineFeeds(text)); // "\r" and "\n" as two tokens are two line breaks.
    const inserted = tokens.length ? pieces.join("") : withLineFeeds(insert);
    const removed = this.text.slice(start, end);
    let position = start;
    const gained = [];
    tokens.forEach(({ text: _, ...token }, index) => {
      const { length } = pieces[index];
      if (length) gained.push({ start: position, end: position + length, ...token });
      position += length;
    });
    if (removed !== inserted || tokens.length) this.#change({ start, removed, inserted, gained }, group);
    return start + inserted.length;
  }

  /** Removes parts, `{start, end}` in order, in one step. The tokens that stay whole remain the model's. */
  removeParts(parts, { group = null } = {}) {
    if (!parts.length) return;
    const [{ start }, { end }] = [parts[0], parts.at(-1)];
    const kept = [];
    const gained = [];
    const first = firstIndex(this.written, (token) => token.end > start);
    let [position, shift, index] = [start, 0, first];
    for (const part of parts) {
      kept.push(this.text.slice(position, part.start));
      for (; this.written[index]?.end <= part.start; index++) {
        const token = this.written[index];
        if (token.start >= position) gained.push({ ...token, start: token.start - shift, end: token.end - shift });
      }
      shift += part.end - part.start;
      position = part.end;
    }
    this.#change({ start, removed: this.text.slice(start, end), inserted: kept.join(""), gained }, group);
  }

  /** Replaces a part of the text by what the user typed at a time in milliseconds; a word is undone as a whole. */
  type(start, end, insert, time) {
    const kind = insert === "" ? "delete" : "insert";
    const last = this.#typed;
    const isNext = kind === "insert" ? start === end && start === last?.caret : end === last?.caret || start === last?.caret;
    const beginsWord = kind === "insert" && /\s$/.test(this.text.slice(0, start)) && !/^\s/.test(insert);
    const goesOn = last !== null && last.kind === kind && isNext && !beginsWord && time - last.time < PAUSE;
    const group = goesOn ? last.group : `typed ${++this.#groups}`;
    this.replace(start, end, insert, { group });
    this.#typed = { group, kind, caret: start + insert.length, time };
  }

  /** Takes the last step back; returns where the caret belongs, or null if there was none. */
  undo() {
    const step = this.#done.pop();
    if (!step) return null;
    let caret = 0;
    for (const { start, removed, inserted, lost } of step.edits.toReversed()) {
      this.#splice(start, start + inserted.length, removed, lost);
      caret = start + removed.length;
    }
    this.#undone.push(step);
    this.#typed = null;
    return caret;
  }

  /** Does the last step again that was undone; returns where the caret belongs, or null if there was none. */
  redo() {
    const step = this.#undone.pop();
    if (!step) return null;
    let caret = 0;
    for (const { start, removed, inserted, gained } of step.edits) {
      this.#splice(start, start + removed.length, inserted, gained);
      caret = start + inserted.length;
    }
    this.#done.push(step);
    this.#typed = null;
    return caret;
  }

  /** Returns the token that has the character at an offset; null if the model did not write it. */
  tokenAt(offset) {
    const token = this.written[firstIndex(this.written, ({ end }) => end > offset)];
    return token && token.start <= offset ? token : null;
  }

  /** Returns the tokens at the end of the text that one call of Write wrote; none if the text ends with something else. */
  lastRun() {
    const { written } = this;
    const run = written.at(-1)?.run;
    let first = written.length;
    let start = this.text.length;
    while (first > 0 && written[first - 1].end === start && written[first - 1].run === run) start = written[--first].start;
    return written.slice(first);
  }

  /** Returns the text and its origin as plain values, without the history. */
  state() {
    const written = this.written.map(({ start, end, tokenId, probability, run }) => [start, end, tokenId, probability, run]);
    return { text: this.text, written };
  }

  /** Returns a document of what `state` returned; null if it is something else. */
  static from(state) {
    if (typeof state?.text !== "string" || !Array.isArray(state.written)) return null;
    const document = new Document();
    document.text = state.text.replaceAll("\r", "\n"); // Two of "\r\n": the offsets of the tokens stay right.
    let position = 0;
    for (const item of state.written) {
      if (!Array.isArray(item) || item.length !== 5 || !item.every(Number.isFinite)) return null;
      const [start, end, tokenId, probability, run] = item;
      if (start < position || end <= start || end > state.text.length) return null;
      document.written.push({ start, end, tokenId, probability, run });
      position = end;
    }
    return document;
  }

  /** Changes the text and moves the tokens after it; returns those that it replaced or that it changed. */
  #splice(start, end, insert, gained) {
    const { written } = this;
    const shift = insert.length - (end - start);
    const first = firstIndex(written, (token) => token.end > start);
    let last = first;
    while (last < written.length && written[last].start < end) last += 1;
    const lost = written.slice(first, last);
    this.text = this.text.slice(0, start) + insert + this.text.slice(end);
    if (first === written.length) {
      for (const token of gained) written.push(token);
    } else {
      const moved = written.slice(last).map((token) => ({ ...token, start: token.start + shift, end: token.end + shift }));
      this.written = [...written.slice(0, first), ...gained, ...moved];
    }
    return lost;
  }

  #change({ start, removed, inserted, gained }, group) {
    const lost = this.#splice(start, start + removed.length, inserted, gained);
    this.#record({ start, removed, inserted, lost, gained }, group);
  }

  #record(edit, group) {
    this.#undone = [];
    this.#typed = null;
    const step = this.#done.at(-1);
    if (group === null || step?.group !== group) {
      this.#done.push({ group, edits: [edit] });
      if (this.#done.length > MOST_STEPS) this.#done.shift();
      return;
    }
    const before = step.edits.at(-1);
    if (edit.removed === "" && !edit.lost.length && edit.start === before.start + before.inserted.length) {
      before.inserted += edit.inserted;
      for (const token of edit.gained) before.gained.push(token);
    } else {
      step.edits.push(edit);
    }
  }
}
