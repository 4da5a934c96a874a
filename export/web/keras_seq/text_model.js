// What a model can do with text.

import { logScale, nextTokens } from "./likeliest.js";
import { learnedBytes, requireOption, SETTINGS } from "./options.js";
import { Reader } from "./reader.js";
import { suggestions } from "./suggest.js";
import { Turns } from "./turns.js";
import { Writer } from "./writer.js";

const MOST_SUGGESTED = 100;
const MOST_TRACED = 1000; // tokens

/** A language model that writes, suggests and scores text. */
export class TextModel {
  #model;
  #reader;
  #reading = Promise.resolve(); // settles when the reader is free; never rejects
  #turns = new Turns(); // a whole answer is of one model, before or after it has learned

  constructor(model) {
    this.#model = model;
    this.#reader = new Reader(model);
    const { vocabulary, config, card } = model;
    Object.assign(this, { vocabulary, config, card });
    this.defaults = { ...SETTINGS };
    for (const name in SETTINGS) if (name in config.sampling) this.defaults[name] = config.sampling[name];
    this.defaults.top_k = Math.min(this.defaults.top_k, vocabulary.tokens.length);
  }

  /** Returns the ids of the tokens of a text. */
  encode(text) {
    return this.vocabulary.encode(text);
  }

  /** Returns the text of token ids. */
  decode(ids) {
    return this.vocabulary.decode(ids);
  }

  /** Continues a prompt: returns an async iterator over pieces. */
  write(prompt = "", options) {
    return new Writer(this.#model, prompt, options, this.defaults);
  }

  /** Returns up to `count` likely next words, or completions of the last word of `text`. */
  async suggest(text, count = 3, options) {
    requireCount(count);
    return this.#withReader(options?.signal, (signal) => this.#suggest(text, count, signal));
  }

  /** Returns the likeliest next tokens. */
  async nextTokens(text, count = 5, options) {
    requireCount(count);
    return this.#withReader(options?.signal, async (signal) => {
      const { logits } = await this.#reader.read(this.vocabulary.encode(text), signal);
      return nextTokens(logits, this.vocabulary, text, count);
    });
  }

  /** Calls `work` when the reader is free, unless the signal is aborted before. */
  #withReader(signal, work) {
    return this.#turns.read(() => {
      const answer = this.#reading.then(() => {
        signal?.throwIfAborted();
        return work(signal);
      });
      this.#reading = answer.then(
        () => {},
        () => {},
      );
      return answer;
    });
  }

  async #suggest(text, count, signal) {
    const tried = [];
    const step = async (id, states) => {
      signal?.throwIfAborted();
      const read = await this.#model.decode(id, states);
      tried.push(read.states);
      return read;
    };
    try {
      const read = (ids) => this.#reader.read(ids, signal);
      return await suggestions(this.vocabulary, text, count, { read, step }, this.#model.learning.own);
    } finally {
      this.#model.release(...tried);
    }
  }

  /** Returns the log-probability of each token of a text, in nats, given those before it. */
  async score(text) {
    return this.#turns.read(() => this.#score(text));
  }

  async #score(text) {
    const tokens = this.vocabulary.encode(text);
    const logProbabilities = [];
    for await (const { logits } of this.#steps([this.vocabulary.startId, ...tokens].slice(0, -1))) {
      logProbabilities.push(logits[tokens[logProbabilities.length]] - logScale(logits));
    }
    return { tokens, logProbabilities, logProbability: logProbabilities.reduce((sum, one) => sum + one, 0) };
  }

  /** Returns, for `<s>` and each token of a text, the log-probabilities of all tokens after it, and its update gates. */
  async trace(text) {
    return this.#turns.read(() => this.#trace(text));
  }

  async #trace(text) {
    const tokens = this.vocabulary.encode(text);
    requireOption("the number of tokens of a text to trace", `at most ${MOST_TRACED}`, tokens.length <= MOST_TRACED, tokens.length);
    const traced = [];
    let before = "";
    for await (const { token, states, logits } of this.#steps([this.vocabulary.startId, ...tokens])) {
      const piece = this.vocabulary.piece(token, before);
      before = piece || before;
      const scale = logScale(logits);
      const updateGates = await this.#model.gates(token, states);
      traced.push({ tokenId: token, text: piece, logProbabilities: logits.map((logit) => logit - scale), updateGates });
    }
    return traced;
  }

  /** Yields each token with the states before it and the logits after it. */
  async *#steps(tokens) {
    let states = await this.#model.initialStates();
    try {
      for (const token of tokens) {
        const read = await this.#model.decode(token, states);
        const before = states;
        states = read.states;
        try {
          yield { token, states: before, logits: read.logits };
        } finally {
          this.#model.release(before);
        }
      }
    } finally {
      this.#model.release(states);
    }
  }

  /** Whether the model can learn from texts. */
  get hasLearn() {
    return this.#model.learning.isPossible;
  }

  /** From how many tokens the model has learned so far. */
  get learnedTokens() {
    return this.#model.learning.tokens;
  }

  /**
   * Learns from a text; returns a report. Texts that are being written end with an error, because their next token would
   * be of another model.
   */
  async learn(text, options) {
    return this.#turns.change(() => this.#model.learning.learn(text, options));
  }

  /** Returns what was learned as bytes, for `loadLearned` with the same model. */
  async saveLearned() {
    return this.#turns.read(() => this.#model.learning.save());
  }

  /** Replaces what was learned by what `saveLearned` returned. */
  async loadLearned(bytes) {
    const copy = learnedBytes(bytes);
    return this.#turns.change(() => this.#model.learning.load(copy));
  }

  /** Forgets what was learned. */
  async forget() {
    return this.#turns.change(() => this.#model.learning.forget());
  }

  /** Frees the memory of the model, after the call that runs now. Texts that are being written end with an error. */
  close() {
    return this.#model.close();
  }
}

function requireCount(count) {
  const isCount = Number.isInteger(count) && count >= 1 && count <= MOST_SUGGESTED;
  requireOption("count", `an integer from 1 to ${MOST_SUGGESTED}`, isCount, count);
}
