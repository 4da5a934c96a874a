// One text that the model writes: it can pause between two tokens and go on with the same ones.

const PACED = 600; // characters that appear as if written; after them, the text appears as fast as the model writes it
const STEP = 3; // characters of one step while paced
// Milliseconds between two updates, half of it while paced: laying out a long text takes longer than drawing its tokens.
const FRAME = 33;

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Whether the text may appear step by step. */
function mayPace() {
  return !document.hidden && !matchMedia("(prefers-reduced-motion: reduce)").matches;
}

export class Run {
  count = 0; // tokens so far
  characters = 0;
  seconds = 0; // that the model has written; the reading of the prompt does not count
  reason = null; // why it ended: "eos", "length", or null if it can go on
  hasChanged = false; // A setting was changed on the way, so that no seed gives this text.
  #begin;
  #writer;
  #abort;
  #changed = {}; // settings that were changed on the way
  #isRunning = false;
  isGivenUp = false;

  /** `begin(signal)` returns a new Writer; wrong options throw here. */
  constructor(begin) {
    this.#begin = begin;
    this.#open();
  }

  /** Writes until the end, until `pause`, or up to the piece that `isLast`; `show` gets the pieces that are new. */
  async go(show, isLast = () => false) {
    if (this.#abort.signal.aborted) this.#open(); // It was paused before its first token, and begins again with the same seed.
    this.#isRunning = true;
    let unshown = [];
    let shown = performance.now();
    try {
      while (this.#isRunning) {
        const began = performance.now();
        const { value: piece, done } = await this.#writer.next();
        // A first token that comes after the abort is not kept: the next writer draws it again.
        if (done || this.isGivenUp || this.#abort.signal.aborted) break;
        if (this.count > 0) this.seconds += (performance.now() - began) / 1000;
        this.count += 1;
        this.characters += piece.text.length;
        unshown.push(piece);
        if (isLast(piece)) break;
        const isPaced = this.characters < PACED && mayPace();
        const isDue = isPaced ? unshown.reduce((sum, { text }) => sum + text.length, 0) >= STEP : performance.now() - shown > FRAME;
        if (!isDue) continue;
        show(unshown);
        unshown = [];
        shown = performance.now();
        if (isPaced) await wait(FRAME / 2);
      }
    } finally {
      this.#isRunning = false;
      if (unshown.length && !this.isGivenUp) show(unshown);
    }
    const reason = this.#writer.finishReason;
    this.reason = reason === "stopped" ? null : reason;
  }

  /** Stops before the next token. */
  pause() {
    this.#isRunning = false;
    if (this.count === 0) this.#abort.abort(); // The model may still read a long prompt.
  }

  /** Stops for good. What is not shown yet is never shown. */
  end() {
    this.isGivenUp = true;
    this.pause();
    this.#free();
  }

  /** Changes settings from the next token on. */
  change(settings) {
    this.#writer.change(settings);
    Object.assign(this.#changed, settings);
    this.hasChanged = true;
  }

  #open() {
    this.#free();
    this.#abort = new AbortController();
    this.#writer = this.#begin(this.#abort.signal);
    if (this.hasChanged) this.#writer.change(this.#changed);
  }

  #free() {
    this.#writer?.return().catch(() => {}); // The model may be closed, which frees the same memory.
  }
}
