// Reads texts that change at their ends, as in an editor.

const PART = 64; // tokens
const RECENT = 16; // marks
const MOST_MARKS = 512;

/**
 * Reads texts. It keeps the states after each part of the last text and after the texts that grew into it, its marks: a text that
 * changes is read from the last mark before the change.
 */
export class Reader {
  #model;
  #tokens = [];
  #marks = []; // `{count, logits, states, version}`: what the model gives after the first `count` tokens

  constructor(model) {
    this.#model = model;
  }

  /** Returns the logits after `<s>` and these tokens, and the states, which stay this object's. */
  async read(ids, signal) {
    const all = [this.#model.vocabulary.startId, ...ids];
    if (!this.#marks.length) this.#marks.push({ count: 0, states: await this.#model.initialStates() });
    this.#goBack(all);
    const { version } = this.#model.learning;
    // The logits depend on what the model has learned, the states do not.
    if (this.#marks.at(-1).count === all.length && this.#marks.at(-1).version !== version) this.#dropLast();
    for (let parts = 0; this.#marks.at(-1).count < all.length; parts++) {
      if (parts > 0) signal?.throwIfAborted();
      const { count, states } = this.#marks.at(-1);
      const end = Math.min(all.length, count - (count % PART) + PART);
      const read = await this.#model.read(all.slice(count, end), states);
      this.#add({ ...read, count: end, version });
    }
    return this.#marks.at(-1);
  }

  /** Releases the marks that are after the first difference from the text that was read last. */
  #goBack(tokens) {
    let same = 0;
    while (same < this.#tokens.length && this.#tokens[same] === tokens[same]) same += 1;
    while (this.#marks.at(-1).count > same) this.#dropLast();
    this.#tokens = tokens;
  }

  #dropLast() {
    this.#model.release(this.#marks.pop().states);
  }

  /** Adds a mark. Of the older ones only those at the ends of parts stay. */
  #add(mark) {
    this.#marks.push(mark);
    const old = this.#marks.length - 1 - RECENT;
    if (old > 0 && this.#marks[old].count % PART) this.#model.release(this.#marks.splice(old, 1)[0].states);
    if (this.#marks.length > MOST_MARKS) this.#model.release(this.#marks.splice(1, 1)[0].states);
  }
}
