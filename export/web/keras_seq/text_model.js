// What a model can do with text, over a model in this thread or in a worker.

import { requireOption, SETTINGS } from "./options.js";
import { suggestions } from "./suggest.js";
import { here } from "./wasm_folder.js";
import { Writer } from "./writer.js";

const MOST_SUGGESTED = 100;

/** A source of a model as bytes: an address, which is fetched, or bytes. */
export async function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  const isAddress = source instanceof URL || typeof source === "string";
  requireOption("the model", "an address, a Uint8Array, an ArrayBuffer or a Blob", isAddress, source);
  let response;
  try {
    response = await fetch(source);
  } catch (error) {
    const isFile = here() === undefined && !/^https?:/.test(source);
    const reason = isFile ? "in Node, give the bytes of the file: readFileSync(path)" : error.message;
    throw new Error(`${source} cannot be loaded: ${reason}`, { cause: error });
  }
  if (!response.ok) throw new Error(`${source} cannot be loaded: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** A text that was read. It keeps the states, so that a text that grows costs one step for each new token. */
class Reader {
  #model;
  #tokens = [];
  #states = null;
  #logits = null;

  constructor(model) {
    this.#model = model;
  }

  /** Returns the logits after `<s>` and these tokens, and the states, which stay this object's. */
  async read(ids, signal) {
    const all = [this.#model.vocabulary.startId, ...ids];
    const isPrefix = this.#tokens.length <= all.length && this.#tokens.every((token, index) => token === all[index]);
    const states = isPrefix ? this.#states : null;
    if (!isPrefix) this.#model.release(this.#states);
    const rest = isPrefix ? all.slice(this.#tokens.length) : all;
    if (!rest.length) return { logits: this.#logits, states };
    [this.#tokens, this.#states, this.#logits] = [[], null, null]; // `read` consumes the states, even if it fails
    const read = await this.#model.read(rest, states ?? (await this.#model.initialStates()), signal);
    if (read === null) signal.throwIfAborted(); // A text that was read is kept, even if it is no longer wanted.
    [this.#tokens, this.#states, this.#logits] = [all, read.states, read.logits];
    return read;
  }
}

/** A language model that writes, suggests and scores text. */
export class TextModel {
  #model;
  #reader;
  #reading = Promise.resolve(); // settles when no suggestions are sought; never rejects

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
    const isCount = Number.isInteger(count) && count >= 1 && count <= MOST_SUGGESTED;
    requireOption("count", `an integer from 1 to ${MOST_SUGGESTED}`, isCount, count);
    this.vocabulary.encode(text); // what is not in the vocabulary is an error of the caller, before any work
    const answer = this.#reading.then(() => this.#suggestNow(text, count, options?.signal));
    this.#reading = answer.then(
      () => {},
      () => {},
    );
    return answer;
  }

  async #suggestNow(text, count, signal) {
    signal?.throwIfAborted();
    const tried = [];
    const step = async (id, states) => {
      signal?.throwIfAborted();
      const read = await this.#model.decode(id, states);
      tried.push(read.states);
      return read;
    };
    try {
      return await suggestions(this.vocabulary, text, count, { read: (ids) => this.#reader.read(ids, signal), step });
    } finally {
      this.#model.release(...tried);
    }
  }

  /** Returns the log-probability of each token of a text, in nats, given those before it. */
  async score(text) {
    const tokens = this.vocabulary.encode(text);
    const logProbabilities = await this.#model.score(tokens);
    return { tokens, logProbabilities, logProbability: logProbabilities.reduce((sum, one) => sum + one, 0) };
  }

  /** Frees the memory of the model, after the call that runs now. Texts that are being written end with an error. */
  close() {
    return this.#model.close();
  }
}
