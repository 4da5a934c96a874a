// A language model in LiteRT.js: states in, states out.

import { loadAndCompile, Tensor } from "@litertjs/core";
import { readBundle } from "./bundle.js";
import { Learning } from "./learning.js";
import { SETTINGS } from "./options.js";
import { isState, LEARN_STEPS, requireSignatures } from "./signatures.js";

const STEPS = 64; // tokens of one call of `prefill`
const MOST_DRAWN = 32; // tokens of one call of `write`
const MOST_KEPT = 256; // tensors of tokens: making one takes a fifth of the time of a step
const CLOSED = "The model was closed.";
const REST = 12; // milliseconds of work between two pauses, in which a page paints and handles clicks

/** Lets other work run. Unlike `setTimeout`, a message is not delayed by four milliseconds. */
function pause() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(null);
  });
}

const number = (value) => Int32Array.of(value);
const real = (value) => Float32Array.of(value);

/**
 * The model of a file. Its calls run one after the other, and keep the states that they are given. The caller owns these and the
 * states that a call returns, and must `release` them; `close` releases the rest.
 */
export class Model {
  /**
   * Opens a file. `bytes` is a promise of its content, and `runtime` one of LiteRT.js: the bundle is read and verified while LiteRT.js
   * loads.
   */
  static async load(bytes, runtime) {
    const [{ vocabulary, config, card, model }] = await Promise.all([bytes.then(readBundle), runtime]);
    const compiled = await loadAndCompile(model, { accelerator: "wasm" });
    try {
      requireSignatures(compiled.signatures, vocabulary, config);
      return new Model(compiled, vocabulary, config, card, await firstStates(compiled.signatures));
    } catch (error) {
      compiled.delete();
      throw error;
    }
  }

  #compiled;
  #signatures;
  #first; // the states at the start of a text, as pairs of a name and its values
  #live = new Set(); // states that are not released
  #tokens = new Map(); // tensors by their tokens
  #settings = { of: null, tensors: {} }; // those of the last draw
  #idle = Promise.resolve(); // settles when no call runs; never rejects
  #rested = performance.now();

  constructor(compiled, vocabulary, config, card, first) {
    this.#compiled = compiled;
    this.#signatures = { ...compiled.signatures };
    this.#first = first;
    Object.assign(this, { vocabulary, config, card, isClosed: false, hasWrite: "write" in compiled.signatures });
    this.features = featuresOf(compiled.signatures); // of what is learned; 0 if nothing can be
    this.learning = new Learning(this);
  }

  /** Returns the states at the start of a text. */
  initialStates() {
    return this.#alone(() => this.#keep(tensors(this.#first)));
  }

  /** Reads `<s>` and a text without its last token; returns this token and the states before it. */
  async begin(text, signal) {
    const tokens = [this.vocabulary.startId, ...this.vocabulary.encode(text)];
    const token = tokens.pop();
    const first = await this.initialStates();
    if (!tokens.length) return { token, states: first };
    try {
      const { states } = await this.read(tokens, first, signal);
      return { token, states };
    } finally {
      this.release(first);
    }
  }

  /** Frees the memory of states: the runtime has no garbage collector. null and released states are ignored. */
  release(...groups) {
    for (const states of groups) if (states && this.#live.delete(states)) deleteAll(states);
  }

  /**
   * Reads tokens, at least one; returns the logits after the last of them and the new states. If the signal is aborted before the
   * last part of a long text, this throws its reason.
   */
  async read(tokens, states, signal) {
    let read = null;
    for (let start = 0; start < tokens.length; start += STEPS) {
      const before = read;
      try {
        if (before) signal?.throwIfAborted();
        read = await this.#readPart(tokens.slice(start, start + STEPS), before?.states ?? states);
      } finally {
        this.release(before?.states);
      }
    }
    return read;
  }

  #readPart(tokens, states) {
    if (tokens.length === 1) return this.decode(tokens[0], states); // gives the same and takes less time
    const padded = new Int32Array(STEPS);
    padded.set(tokens);
    return this.#run("prefill", { tokens: [padded, [1, STEPS]], length: [number(tokens.length), [1]] }, states, ["logits"]);
  }

  /** Reads one token; returns the logits after it and the new states. */
  decode(token, states) {
    return this.#run("decode", { token }, states, ["logits"]);
  }

  /** Returns the update gates of each layer at a token that follows the states; null if the file does not have them. */
  async gates(token, states) {
    if (!this.#signatures.gates) return null;
    const names = this.#signatures.gates.getOutputDetails().map(({ name }) => name);
    const { states: none, ...gates } = await this.#run("gates", { token }, states, names);
    this.release(none);
    return names.map((_, layer) => gates[`update_gate_${layer}`]);
  }

  /** Draws the token after `token`; returns it, the new states, and the version of what was learned with which it was drawn. */
  async sample(token, uniform, settings, states) {
    const inputs = { token, uniform: [uniform, [1]] };
    const drawn = await this.#run("sample", inputs, states, ["next_token", "log_probability"], settings);
    const { next_token: tokens, log_probability: logProbabilities, version } = drawn;
    return { tokens, logProbabilities, states: drawn.states, version };
  }

  /** Draws up to `length` tokens after `token`, one with each uniform number. */
  async write(token, uniforms, length, settings, states) {
    const numbers = new Float32Array(MOST_DRAWN);
    numbers.set(uniforms);
    const inputs = { token, uniforms: [numbers, [1, MOST_DRAWN]], length: [number(length), [1]] };
    const drawn = await this.#run("write", inputs, states, ["tokens", "log_probabilities", "count"], settings);
    const [count] = drawn.count;
    const isCount = count >= 1 && count <= length; // Otherwise there are no tokens, which no caller accepts.
    const [tokens, logProbabilities] = [drawn.tokens, drawn.log_probabilities].map((all) => all.slice(0, isCount ? count : 0));
    return { tokens, logProbabilities, states: drawn.states, version: drawn.version };
  }

  /**
   * Calls `work` with the functions that change what was learned, while no other call runs. If it throws, it must have left
   * everything as it was.
   */
  change(work) {
    const calls = {
      initialStates: () => this.#keep(tensors(this.#first)),
      release: (...states) => this.release(...states),
      learn: (block, rate) => this.#learnBlock(block, rate),
      weights: () => this.#weights(),
      setWeights: (learned) => this.#setWeights("set_weights", learned),
      resetWeights: () => this.#setWeights("reset_weights"),
    };
    return this.#alone(() => work(calls));
  }

  /** Returns what was learned. */
  weights() {
    return this.#alone(() => this.#weights());
  }

  /**
   * Learns from up to 64 tokens; returns the log-probability of each next token before that, `modelLogProbabilities` without
   * anything learned, and the new states.
   */
  async #learnBlock({ tokens, next, states }, rate) {
    await this.#rest();
    if (this.isClosed) throw new Error(CLOSED);
    const [read, following] = [tokens, next].map((ids) => {
      const padded = new Int32Array(LEARN_STEPS);
      padded.set(ids);
      return [padded, [1, LEARN_STEPS]];
    });
    const inputs = { tokens: read, next_tokens: following, length: [number(tokens.length), [1]], rate: [real(rate), [1]] };
    const found = await this.#runNow("learn", inputs, states, ["log_probabilities", "model_log_probabilities"]);
    const [logProbabilities, modelLogProbabilities] = [found.log_probabilities, found.model_log_probabilities].map((all) =>
      all.slice(0, tokens.length),
    );
    return { logProbabilities, modelLogProbabilities, states: found.states };
  }

  async #weights() {
    const { weights, log_shares: logShares, states: none } = await this.#runNow("get_weights", {}, {}, ["weights", "log_shares"]);
    this.release(none);
    return { weights, logShares };
  }

  async #setWeights(signature, learned) {
    const { weights, logShares } = learned ?? {};
    const shape = [this.vocabulary.tokens.length, this.features];
    const inputs = learned ? { weights: [weights, shape], log_shares: [logShares, [logShares.length]] } : {};
    const { states: none } = await this.#runNow(signature, inputs, {}, ["log_shares"]);
    this.release(none);
  }

  /** Frees the memory of the model and of all its states, after the call that runs now. */
  close() {
    this.isClosed = true;
    this.#idle = this.#idle.then(() => {
      this.release(...this.#live);
      this.#forgetTokens();
      deleteAll(this.#settings.tensors);
      this.#settings = { of: null, tensors: {} };
      this.#compiled.delete();
    });
    return this.#idle;
  }

  /** Pauses now and then: LiteRT.js computes in this thread. */
  async #rest() {
    if (performance.now() - this.#rested < REST) return;
    await pause();
    this.#rested = performance.now();
  }

  #keep(states) {
    this.#live.add(states);
    return states;
  }

  /** Calls `work` after the calls before it. */
  #alone(work) {
    const result = this.#idle.then(() => {
      if (this.isClosed) throw new Error(CLOSED);
      return work();
    });
    this.#idle = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  /** Runs a signature when no other call runs. */
  async #run(...call) {
    await this.#rest();
    return this.#alone(() => this.#runNow(...call));
  }

  /** Runs a signature; returns the values of some outputs, the new states, and the version of what was learned. */
  async #runNow(signature, { token, ...inputs }, states, names, settings) {
    const kept = token === undefined ? {} : { token: this.#tokenAsTensor(token) };
    const given = tensors(Object.entries(inputs).map(([name, [values, shape]]) => [name, values, shape]));
    try {
      const fixed = settings ? this.#settingsAsTensors(settings) : {};
      const found = this.#split(await this.#signatures[signature].run({ ...kept, ...given, ...fixed, ...states }), names);
      return { ...found, version: this.learning.version };
    } finally {
      deleteAll(given);
    }
  }

  /** Separates the new states from the outputs that are read. */
  #split(outputs, names) {
    const states = { ...outputs };
    const values = {};
    try {
      for (const name of names) {
        if (!outputs[name]) throw new Error(`The model in this file is damaged: it does not return ${name}.`);
        values[name] = outputs[name].toTypedArray();
        outputs[name].delete();
        delete states[name];
      }
    } catch (error) {
      deleteAll(outputs);
      throw error;
    }
    return { ...values, states: this.#keep(states) };
  }

  #tokenAsTensor(token) {
    if (!this.#tokens.has(token)) {
      if (this.#tokens.size === MOST_KEPT) this.#forgetTokens();
      this.#tokens.set(token, new Tensor(number(token), [1]));
    }
    return this.#tokens.get(token);
  }

  #forgetTokens() {
    for (const tensor of this.#tokens.values()) tensor.delete();
    this.#tokens.clear();
  }

  #settingsAsTensors(settings) {
    if (!isSame(this.#settings.of, settings)) {
      deleteAll(this.#settings.tensors);
      const { temperature, top_k, top_p, min_p } = settings;
      const values = {
        temperature: real(temperature),
        top_k: number(Math.min(top_k, this.vocabulary.tokens.length)),
        top_p: real(top_p),
        min_p: real(min_p),
      };
      this.#settings = { of: settings, tensors: tensors(Object.entries(values).map(([name, one]) => [name, one, [1]])) };
    }
    return this.#settings.tensors;
  }
}

function tensors(arrays) {
  return Object.fromEntries(arrays.map(([name, values, shape]) => [name, new Tensor(values, shape)]));
}

function deleteAll(tensors) {
  for (const tensor of Object.values(tensors)) tensor.delete();
}

function isSame(one, other) {
  return one !== null && Object.keys(SETTINGS).every((name) => one[name] === other[name]);
}

/** Returns the number of features from which a model learns; 0 if it does not learn. */
function featuresOf({ get_weights }) {
  return get_weights?.getOutputDetails().find(({ name }) => name === "weights").shape.at(-1) ?? 0;
}

/** Returns the states at the start of a text: those that `start` returns, or zeros. */
async function firstStates({ start, prefill }) {
  if (!start) {
    const states = prefill.getInputDetails().filter(({ name }) => isState(name));
    return states.map(({ name, shape }) => [name, new Float32Array(shape[1]), [1, shape[1]]]);
  }
  const states = await start.run({});
  const values = Object.entries(states).map(([name, tensor]) => [name, tensor.toTypedArray()]);
  deleteAll(states);
  return values.map(([name, array]) => [name, array, [1, array.length]]);
}
