// The token loop, which can pause between two tokens, take other settings, and go on.

import { changedSettings, writeOptions } from "./options.js";
import { uniforms } from "./random.js";
import { StopFilter } from "./stop_strings.js";

const MOST_DRAWN = 32; // tokens of one call of the signature `write`
const LEARNED = "The model has learned or forgotten something since this text was begun; begin it again.";
const DAMAGED = "The model in this file is damaged: it draws tokens that it does not have.";

/**
 * A continuation of a prompt: an async iterator over its pieces, `{text, tokenId, logProbability}`. Token i is drawn with
 * uniform(seed, i), as in every other runtime.
 *
 * `model` is a Model or a RemoteModel. Its calls keep the states that they are given, so that a text can go on differently after
 * any token of a call.
 */
export class Writer {
  #model;
  #options;
  #settings;
  #prompt;
  #last; // the text after which the next piece is written
  #position = 0; // of the next token to be drawn
  #states = null; // before the model reads #token
  #token = null; // the last token, which the model has not read
  #drawn = null; // the tokens of the last call, with the states and the token before it
  #version = null; // of what the model had learned when it drew the first token: no text is a mixture of two
  #oneByOne = 0; // tokens that `write` could not draw
  #pieces;

  constructor(model, prompt, options, defaults) {
    this.#options = writeOptions(options, defaults);
    this.#model = model;
    this.#settings = this.#options.settings;
    model.vocabulary.requireReadable(prompt);
    this.#prompt = this.#last = prompt;
    this.seed = this.#options.seed;
    this.finishReason = null;
    this.#pieces = this.#options.stops.length ? this.#untilStop() : this.#untilEnd();
  }

  [Symbol.asyncIterator]() {
    return this;
  }

  next() {
    return this.#pieces.next();
  }

  /** Ends the text and frees its memory, as leaving a `for await` does. */
  async return() {
    this.finishReason ??= "stopped";
    await this.#pieces.return();
    this.#free(); // if the text had not begun
    return { value: undefined, done: true };
  }

  /** Changes settings from the next token on, such as `{temperature: 0.5}`. */
  change(settings) {
    this.#settings = changedSettings(this.#settings, settings);
  }

  async *#untilStop() {
    const filter = new StopFilter(this.#options.stops);
    for await (const piece of this.#untilEnd()) {
      const ready = filter.add(piece);
      if (filter.found) this.finishReason = "stop";
      yield* ready;
      if (filter.found) return;
    }
    if (this.finishReason !== "stopped") yield* filter.rest();
  }

  async *#untilEnd() {
    const { vocabulary } = this.#model;
    try {
      for (let drawn; (drawn = await this.#next()); ) {
        const text = vocabulary.piece(drawn.tokenId, this.#last);
        this.#last = text || this.#last;
        yield { text, ...drawn };
      }
    } finally {
      this.#free();
    }
  }

  /** Returns the next token; null at the end, when `finishReason` says why. */
  async #next() {
    const { maxTokens, signal } = this.#options;
    if (this.#position === maxTokens) this.finishReason ??= "length";
    if (signal?.aborted) this.finishReason ??= "stopped";
    if (this.finishReason) return null;
    if (this.#model.isClosed) throw new Error("The model was closed."); // also where tokens are left that were drawn before
    if (this.#version !== null && this.#model.learning.version > this.#version) throw new Error(LEARNED);
    if (this.#drawn && this.#drawn.settings !== this.#settings) await this.#drawAgain();
    if (!this.#drawn) await this.#draw();
    if (!this.#drawn) return null; // The host stopped the text while the model read the prompt.
    const drawn = this.#drawn;
    const index = drawn.used++;
    const [tokenId, logProbability] = [drawn.tokens[index], drawn.logProbabilities[index]];
    if (drawn.used === drawn.tokens.length) this.#goOn(drawn.after);
    this.#position += 1;
    if (tokenId === this.#model.vocabulary.eosId) {
      this.finishReason = "eos";
      return null;
    }
    return { tokenId, logProbability };
  }

  /** Continues after the last token that was used of the last call. */
  #goOn(states) {
    const { tokens, used } = this.#drawn;
    if (states !== this.#states) this.#model.release(this.#states);
    this.#states = states;
    if (used) this.#token = tokens[used - 1];
    this.#drawn = null;
  }

  /** Goes back to the last token that was used: the settings of the next one have changed. */
  async #drawAgain() {
    const { used, settings, after } = this.#drawn;
    this.#model.release(after);
    this.#drawn.after = null;
    if (!used) return this.#goOn(this.#states);
    const numbers = uniforms(this.seed, this.#position - used, used);
    const again = await this.#model.write(this.#token, numbers, used, settings, this.#states);
    this.#goOn(again.states);
    this.#requireVersion(again.version);
  }

  #requireVersion(version) {
    if (version !== this.#version) throw new Error(LEARNED);
  }

  /** Draws the next tokens. */
  async #draw() {
    if (!this.#states && !(await this.#readPrompt())) return;
    const settings = this.#settings;
    const { version, ...drawn } = (await this.#drawMany(settings)) ?? (await this.#drawOne(settings));
    this.#drawn = { ...drawn, settings, used: 0 };
    this.#version ??= version;
    this.#requireVersion(version); // The model may have changed between two calls.
  }

  /** Draws up to 32 tokens at once; null if the file or its runtime cannot, or a token among them cannot be drawn. */
  async #drawMany(settings) {
    const length = Math.min(MOST_DRAWN, this.#options.maxTokens - this.#position);
    if (!this.#model.hasWrite || length === 1 || this.#oneByOne > 0) return null;
    const numbers = uniforms(this.seed, this.#position, length);
    let drawn;
    try {
      drawn = await this.#model.write(this.#token, numbers, length, settings, this.#states);
    } catch (error) {
      if (this.#model.isClosed) throw error;
    }
    const accepted = drawn && this.#accepted(drawn);
    if (accepted) return accepted;
    if (drawn?.tokens.length === 0) throw new Error(DAMAGED);
    this.#oneByOne = length; // The tokens before the bad one are delivered, and an error names its position.
    return null;
  }

  async #drawOne(settings) {
    this.#oneByOne = Math.max(0, this.#oneByOne - 1);
    const number = uniforms(this.seed, this.#position, 1);
    let drawn;
    let failure = new Error(DAMAGED);
    try {
      drawn = await this.#model.sample(this.#token, number, settings, this.#states);
    } catch (error) {
      if (this.#model.isClosed) throw error;
      failure = error;
    }
    const accepted = drawn && this.#accepted(drawn);
    if (accepted) return accepted;
    const hasNumber = !drawn || drawn.logProbabilities.every(Number.isFinite);
    if (hasNumber && (await this.#isFinite())) throw failure;
    throw new Error(`token ${this.#position} cannot be sampled: the model's logits are not finite`);
  }

  /**
   * Returns what was drawn; null if no model can draw it. Where the logits are not finite, LiteRT.js gives `<pad>` and a
   * log-probability of 0; no model draws `<pad>` or `<s>`.
   */
  #accepted({ tokens, logProbabilities, states, version }) {
    const { tokens: all, padId, startId } = this.#model.vocabulary;
    const canBeDrawn = (token) => all[token] !== undefined && token !== padId && token !== startId;
    if (tokens.length && tokens.every(canBeDrawn) && logProbabilities.every(Number.isFinite)) {
      return { tokens, logProbabilities, after: states, version };
    }
    this.#model.release(states);
    return null;
  }

  /** Whether the logits of the next token are finite, or cannot be known. */
  async #isFinite() {
    try {
      const { logits, states } = await this.#model.decode(this.#token, this.#states);
      this.#model.release(states);
      return logits.every(Number.isFinite);
    } catch (error) {
      if (this.#model.isClosed) throw error;
      return true;
    }
  }

  /** Reads the prompt without its last token; returns false if the host stopped the text before the end. */
  async #readPrompt() {
    const { signal } = this.#options;
    try {
      const { token, states } = await this.#model.begin(this.#prompt, signal);
      [this.#token, this.#states] = [token, states];
      return true;
    } catch (error) {
      if (!signal?.aborted || this.#model.isClosed) throw error;
      this.finishReason ??= "stopped";
      return false;
    }
  }

  #free() {
    this.#model.release(this.#states, this.#drawn?.after);
    this.#states = this.#drawn = null;
  }
}
