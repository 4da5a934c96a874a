// What lies behind the text: the same text again, invisible, in parts with a background or an underline.

const LEVELS = [0.5, 0.2, 0.05, 0.01]; // probabilities; below the last one is the fifth level

const FILLER = "\u200b"; // at the end: gives an empty last line its height

/** Returns the level of a probability, from 1 (likely) to 5 (a surprise). */
export function levelOf(probability) {
  const index = LEVELS.findIndex((least) => probability >= least);
  return index < 0 ? LEVELS.length + 1 : index + 1;
}

/**
 * Returns the parts of a text, `{start, end, kind}`: `kind` has the names of its classes.
 *
 * `marked` are ranges that the model does not know. `colours`: a kind for each level of probability; `separate`: one token and the
 * next differ.
 */
export function partsOf(text, written, marked, { colours = false, separate = false } = {}) {
  const parts = [];
  const add = (start, end, kind) => {
    const last = parts.at(-1);
    if (last?.kind === kind && last.end === start) last.end = end;
    else if (start < end) parts.push({ start, end, kind });
  };
  let position = 0;
  written.forEach(({ start, end, probability }, index) => {
    add(position, start, "");
    const names = ["written"];
    if (colours) names.push(`level-${levelOf(probability)}`);
    if (separate && index % 2) names.push("odd");
    add(start, end, names.join(" "));
    position = end;
  });
  add(position, text.length, "");
  return marked.length ? withMarks(parts, marked) : parts;
}

function withMarks(parts, marked) {
  const cut = [];
  const add = (start, end, kind) => {
    const last = cut.at(-1);
    if (last?.kind === kind && last.end === start) last.end = end;
    else cut.push({ start, end, kind });
  };
  let next = 0;
  for (const { start, end, kind } of parts) {
    let position = start;
    while (next < marked.length && marked[next].start < end) {
      const [from, to] = [Math.max(position, marked[next].start), Math.min(end, marked[next].end)];
      if (from > position) add(position, from, kind);
      add(from, to, `${kind} unknown`.trim());
      position = to;
      if (marked[next].end > end) break; // It goes on in the next part.
      next += 1;
    }
    if (position < end) add(position, end, kind);
  }
  return cut;
}

/** Returns the lines of a text, up to and with their line feeds, each as a list of parts, `{content, kind}`. */
export function linesOf(text, parts) {
  const lines = [[]];
  let next = 0; // the end of the line
  for (const { start, end, kind } of parts) {
    for (let position = start; position < end; ) {
      if (next <= position) next = text.indexOf("\n", position) + 1 || Infinity;
      const stop = Math.min(end, next);
      lines.at(-1).push({ content: text.slice(position, stop), kind });
      if (stop === next) lines.push([]);
      position = stop;
    }
  }
  const isEmpty = !lines.at(-1).length;
  if (isEmpty && lines.length > 1) lines.pop(); // It is in the block of the line before, where it stays when a line is added.
  if (isEmpty) lines.at(-1).push({ content: FILLER, kind: "" });
  return lines;
}

/**
 * The parts in the page, in an element that has the measures of the text field. Each line is a block, so that a browser lays out
 * again only the lines that have changed: in a long text, all else would take too long at each key.
 */
export class Backdrop {
  #box;
  #lines = []; // what is shown

  constructor(box) {
    this.#box = box;
    this.show("", []);
  }

  /** Shows the parts of a text. What has not changed stays as it is. */
  show(text, parts) {
    const lines = linesOf(text, parts);
    const isSame = (one, other) => one.length === other.length && one.every((part, index) => isSamePart(part, other[index]));
    change(this.#box, this.#lines, lines, { isSame, make: newLine, update: changeLine });
    this.#lines = lines;
  }

  /** Returns the offset of the character at a point of the screen, near an offset of the caret; -1 if there is none. */
  characterAt(caret, x, y) {
    return [caret - 1, caret].find((offset) => this.#rectangles(offset).some((it) => isInside(it, x, y))) ?? -1;
  }

  #rectangles(offset) {
    let before = 0;
    for (const [row, parts] of this.#lines.entries()) {
      for (const [index, { content }] of parts.entries()) {
        if (offset >= before && offset < before + content.length) {
          const range = document.createRange();
          const { firstChild } = this.#box.children[row].children[index];
          range.setStart(firstChild, offset - before);
          range.setEnd(firstChild, offset - before + 1);
          return [...range.getClientRects()];
        }
        before += content.length;
      }
    }
    return [];
  }
}

/** Returns where a sequence has changed: `before` from `start` to `stop` is `after` from `start` to `end`. */
function difference(before, after, isSame) {
  const most = Math.min(before.length, after.length);
  let start = 0;
  while (start < most && isSame(before[start], after[start])) start += 1;
  let [stop, end] = [before.length, after.length];
  while (stop > start && end > start && isSame(before[stop - 1], after[end - 1])) [stop, end] = [stop - 1, end - 1];
  return { start, stop, end };
}

/** Turns the children of an element, which show the items of one list, into those of another list. */
function change(box, before, after, { isSame, make, update }) {
  const { start, stop, end } = difference(before, after, isSame);
  let child = box.children[start] ?? null;
  for (let index = start; index < stop; index++) {
    const next = child.nextElementSibling;
    if (index < end) update(child, before[index], after[index]);
    else child.remove();
    child = next;
  }
  const added = new DocumentFragment();
  for (const one of after.slice(Math.min(stop, end), end)) added.append(make(one));
  box.insertBefore(added, child);
}

function newLine(parts) {
  const line = document.createElement("div");
  line.append(...parts.map(newPart));
  return line;
}

function changeLine(line, before, after) {
  change(line, before, after, { isSame: isSamePart, make: newPart, update: changePart });
}

function newPart({ content, kind }) {
  const one = document.createElement("span");
  one.className = kind;
  one.append(content);
  return one;
}

function changePart(one, before, after) {
  if (before.kind !== after.kind) one.className = after.kind;
  const { start, stop, end } = difference(before.content, after.content, Object.is);
  one.firstChild.replaceData(start, stop - start, after.content.slice(start, end));
}

function isSamePart(one, other) {
  return one.kind === other.kind && one.content === other.content;
}

function isInside({ left, right, top, bottom }, x, y) {
  return x >= left && x <= right && y >= top && y <= bottom;
}
