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
  let next = 0;
  for (const { start, end, kind } of parts) {
    let position = start;
    while (next < marked.length && marked[next].start < end) {
      const [from, to] = [Math.max(position, marked[next].start), Math.min(end, marked[next].end)];
      if (from > position) cut.push({ start: position, end: from, kind });
      cut.push({ start: from, end: to, kind: `${kind} unknown`.trim() });
      position = to;
      if (marked[next].end > end) break; // It goes on in the next part.
      next += 1;
    }
    if (position < end) cut.push({ start: position, end, kind });
  }
  return cut;
}

/** The parts in the page, in an element that has the measures of the text field. */
export class Backdrop {
  #box;
  #shown = []; // {content, kind} of each child

  constructor(box) {
    this.#box = box;
    this.show("", []);
  }

  /** Shows the parts of a text. Children whose part is the same stay as they are, and what only grows does not move. */
  show(text, parts) {
    const wanted = parts.map(({ start, end, kind }) => ({ content: text.slice(start, end), kind }));
    if (!wanted.length) wanted.push({ content: "", kind: "" });
    wanted.at(-1).content += FILLER;
    let same = 0;
    while (same < wanted.length && this.#isSame(same, wanted[same])) same += 1;
    if (same === this.#shown.length - 1 && this.#grow(same, wanted[same])) same += 1;
    while (this.#box.children.length > same) this.#box.lastElementChild.remove();
    this.#box.append(...wanted.slice(same).map(span));
    this.#shown = wanted;
  }

  /** Returns the offset of the character at a point of the screen, near an offset of the caret; -1 if there is none. */
  characterAt(caret, x, y) {
    return [caret - 1, caret].find((offset) => this.#rectangles(offset).some((it) => isInside(it, x, y))) ?? -1;
  }

  /** Extends the last child; returns false if its part does not only grow. */
  #grow(index, { content, kind } = {}) {
    const before = this.#shown[index].content.slice(0, -FILLER.length);
    if (kind !== this.#shown[index].kind || !content.startsWith(before)) return false;
    const end = content.endsWith(FILLER) ? content.length - FILLER.length : content.length;
    const node = this.#box.children[index].firstChild;
    node.insertData(before.length, content.slice(before.length, end));
    if (end === content.length) node.deleteData(end, FILLER.length); // Another part follows.
    return true;
  }

  #isSame(index, { content, kind }) {
    const shown = this.#shown[index];
    return shown !== undefined && shown.kind === kind && shown.content === content;
  }

  #rectangles(offset) {
    let before = 0;
    for (const child of this.#box.children) {
      const { length } = child.firstChild;
      if (offset >= before && offset < before + length) {
        const range = document.createRange();
        range.setStart(child.firstChild, offset - before);
        range.setEnd(child.firstChild, offset - before + 1);
        return [...range.getClientRects()];
      }
      before += length;
    }
    return [];
  }
}

function span({ content, kind }) {
  const one = document.createElement("span");
  one.className = kind;
  one.append(content);
  return one;
}

function isInside({ left, right, top, bottom }, x, y) {
  return x >= left && x <= right && y >= top && y <= bottom;
}
