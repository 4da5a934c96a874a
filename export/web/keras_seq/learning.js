// How a model learns from a text on this device. Pure: the calls of the model are given.
//
// The text is read in blocks of 64 tokens. A block is predicted with what was learned before it, and then learned from.

import { learnedFile, readLearned } from "./learned_file.js";
import { isRate, requireKnown, requireOption } from "./options.js";
import { OwnWords } from "./own_words.js";
import { LEARN_STEPS } from "./signatures.js";
import { splitLines, splitWhitespace } from "./tokens.js";

const EXPORT = "export_tflite(..., learn=True)";
const CANDIDATES = [0, 0.5, 1]; // the weights of what was learned between which a model chooses
const ONLY_LEARNED = Float32Array.of(-100, -100, 0); // shares with which it chooses the last of them
const DAMAGED = "The model in this file, or what it has learned, is damaged: its logits are not finite.";
const WORST = 1; // nats per token that the end of the text may lose by what was learned

/** What a model has learned. */
export class Learning {
  #model;

  /** `model` has `vocabulary`, `config`, the number of `features`, `weights()` and `change(work)`, as Model has. */
  constructor(model) {
    this.#model = model;
    this.isPossible = model.features > 0;
    this.tokens = 0; // from which it has learned
    this.version = 0; // one more after each change
    this.own = new OwnWords();
  }

  /** Learns from a text; returns a report. If this throws, what was learned before is kept. */
  async learn(text, options) {
    this.#require();
    const { vocabulary, config } = this.#model;
    const { rate, by_line: byLine } = learnOptions(options, config);
    const segments = segmentsOf(text, vocabulary, byLine);
    return this.#model.change(async (calls) => {
      const report = await learnFrom(segments, vocabulary.startId, rate, calls);
      this.own.learn(text);
      this.#changed(this.tokens + report.tokens);
      return report;
    });
  }

  /** Returns the bytes of a file, from which `load` reads what was learned. */
  async save() {
    this.#require();
    const learned = await this.#model.weights();
    return learnedFile({ ...learned, tokens: this.tokens, words: this.own }, this.#identity());
  }

  async load(bytes) {
    this.#require();
    const learned = await readLearned(bytes, this.#identity());
    return this.#model.change(async (calls) => {
      await calls.setWeights(learned);
      this.own = learned.words;
      this.#changed(learned.tokens);
    });
  }

  async forget() {
    this.#require();
    return this.#model.change(async (calls) => {
      await calls.resetWeights();
      this.own = new OwnWords();
      this.#changed(0);
    });
  }

  #changed(tokens) {
    this.tokens = tokens;
    this.version += 1;
  }

  #require() {
    if (!this.isPossible) throw new Error(`This file must have a signature learn, which ${EXPORT} adds.`);
  }

  /** Returns which model this is, for files of what was learned. */
  #identity() {
    const { vocabulary, config, features } = this.#model;
    return { hash: config.model_sha256, size: vocabulary.tokens.length, features };
  }
}

/** Returns the options of `learn`, complete and in range, for a file with this configuration. */
export function learnOptions(options, { learning, by_line: isByLine }) {
  options ??= {};
  requireKnown(options, ["rate", "by_line"]);
  const { rate = learning.rate, by_line = isByLine === true } = options;
  requireOption("rate", "a positive number, at most 1,000,000", isRate(rate), rate);
  requireOption("by_line", "true or false", typeof by_line === "boolean", by_line);
  return { rate, by_line };
}

/**
 * Returns the ids of each part of a text that a model reads from its first states: the whole text, or each line with its
 * `<eos>`.
 */
export function segmentsOf(text, vocabulary, byLine) {
  if (typeof text !== "string") throw new TypeError(`The text must be a string, not ${typeof text}.`);
  const isWords = vocabulary.level === "whitespace";
  const lines = splitLines(text).filter((line) => (isWords ? splitWhitespace(line).length : line !== ""));
  if (byLine) vocabulary.requireReadable(lines.join(isWords ? " " : "")); // names what any line has, but no line feeds
  const idsOf = (line) => [...vocabulary.encode(line), vocabulary.eosId];
  const segments = byLine ? lines.map(idsOf) : [vocabulary.encode(text)];
  requireOption("text", "a text that is not empty", segments.some(({ length }) => length > 0), text);
  return segments;
}

/**
 * Learns from segments of a text; returns a report. If it throws, nothing was learned.
 *
 * @param {number[][]} segments the ids of each
 * @param {number} startId that of `<s>`, which each segment begins with
 * @param {number} rate
 * @param {object} calls those of `Model.change`
 */
export async function learnFrom(segments, startId, rate, calls) {
  const before = await calls.weights();
  const reading = new Reading(startId, rate, calls);
  try {
    for (const ids of segments) await reading.learn(ids);
    const learned = await calls.weights();
    await reading.requireSound(before, learned);
    await calls.setWeights(learned);
    return { ...reading.report(), weight: weightOf(learned) };
  } catch (error) {
    await calls.setWeights(before);
    throw error;
  } finally {
    reading.release();
  }
}

/** A text that is learned from, segment by segment. */
class Reading {
  #startId;
  #rate;
  #calls;
  #tokens = 0;
  #nats = [0, 0]; // with what was learned, and without
  #last = []; // its last blocks as arguments of `learn`, with the states before each
  #states = null; // after them

  constructor(startId, rate, calls) {
    this.#startId = startId;
    this.#rate = rate;
    this.#calls = calls;
  }

  async learn(ids) {
    const before = [this.#startId, ...ids]; // the token before each
    this.#calls.release(this.#states);
    this.#states = this.#calls.initialStates();
    for (let start = 0; start < ids.length; start += LEARN_STEPS) {
      const end = Math.min(start + LEARN_STEPS, ids.length);
      const block = { tokens: before.slice(start, end), next: ids.slice(start, end), states: this.#states };
      this.#last.push(block);
      this.#states = null;
      const { states, logProbabilities, modelLogProbabilities } = await this.#read(block, this.#rate);
      this.#states = states;
      this.#tokens += block.next.length;
      this.#nats[0] -= sumOf(logProbabilities);
      this.#nats[1] -= sumOf(modelLogProbabilities);
      this.#dropFirst();
    }
  }

  /** Drops blocks while the later ones have at least as many tokens together as a whole block. */
  #dropFirst() {
    const count = () => sumOf(this.#last.map(({ next }) => next.length));
    while (count() - this.#last[0].next.length >= LEARN_STEPS) this.#calls.release(this.#last.shift().states);
  }

  /** Returns what `learn` does; requires its numbers to be finite. */
  async #read(block, rate) {
    const read = await this.#calls.learn(block, rate);
    const isFinite = [read.modelLogProbabilities, read.logProbabilities].map((all) => all.every(Number.isFinite));
    if (isFinite.every(Boolean)) return read;
    this.#calls.release(read.states);
    throw isFinite[0] ? tooLarge(this.#rate) : new Error(DAMAGED);
  }

  /**
   * Requires that what was learned alone does not make the end of the text much less likely than it was: than the model
   * without it makes it, and than what was learned before does. A rate that is too large leaves weights that fit nothing.
   */
  async requireSound(before, learned) {
    const [now, alone] = await this.#fit(learned);
    const [earlier] = await this.#fit(before);
    if (!(Math.min(alone, earlier) - now <= WORST)) throw tooLarge(this.#rate); // also if it is NaN
  }

  /** Returns the mean log-probability of the last blocks with some weights alone, and that of the model without them. */
  async #fit({ weights }) {
    const sums = [0, 0];
    for (const block of this.#last) {
      await this.#calls.setWeights({ weights, logShares: ONLY_LEARNED });
      const { states, logProbabilities, modelLogProbabilities } = await this.#read(block, 0);
      this.#calls.release(states);
      sums[0] += sumOf(logProbabilities);
      sums[1] += sumOf(modelLogProbabilities);
    }
    const count = sumOf(this.#last.map(({ next }) => next.length));
    return sums.map((sum) => sum / count);
  }

  report() {
    const [natsPerToken, modelNatsPerToken] = this.#nats.map((nats) => nats / this.#tokens);
    return { tokens: this.#tokens, natsPerToken, modelNatsPerToken };
  }

  /** Frees the memory of the states. */
  release() {
    this.#calls.release(this.#states, ...this.#last.map(({ states }) => states));
  }
}

function sumOf(numbers) {
  return numbers.reduce((sum, one) => sum + one, 0);
}

/** Returns the weight with which a model uses what was learned, 0 to 1. */
function weightOf({ logShares }) {
  const shares = [...logShares].map((one) => Math.exp(one - Math.max(...logShares)));
  return sumOf(shares.map((share, index) => share * CANDIDATES[index])) / sumOf(shares);
}

function tooLarge(rate) {
  return new Error(`rate is too large: learning diverged, and what was learned before is kept. Received: ${rate}`);
}
