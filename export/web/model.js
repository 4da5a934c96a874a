// A language model in LiteRT.js: states in, states out, one token at a time.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { readBundle } from "./bundle.js";

const STEPS = 64; // tokens of one call of `prefill`
const REST = 30; // milliseconds of reading between two pauses for other work of the page
const SETTINGS = { temperature: 1, top_k: 0, top_p: 1, min_p: 0 };

let runtime;

/** Loads LiteRT.js with its wasm, once. */
export function loadRuntime() {
  runtime ??= loadLiteRt("./node_modules/@litertjs/core/wasm/").catch(() => {
    runtime = undefined; // lets the next call try again
    throw new Error("LiteRT.js cannot be loaded: check the network, and node_modules/@litertjs/core beside this page.");
  });
  return runtime;
}

/** The model of a file. The caller owns the states that it returns and must `release` them. */
export class Model {
  static async load(bytes) {
    const { vocabulary, config, card, model } = await readBundle(bytes);
    if ((config.sampling.repetition_penalty ?? 1) !== 1) {
      throw new Error("This file was exported with a repetition_penalty, which its signature `sample` does not support.");
    }
    await loadRuntime();
    const compiled = await loadAndCompile(model, { accelerator: "wasm" });
    const { prefill, sample, start, encode } = compiled.signatures;
    if (!prefill || !sample) {
      compiled.delete();
      throw new Error("This file lacks the signatures prefill and sample: export it again.");
    }
    if (encode) {
      compiled.delete();
      throw new Error("This model begins with the states of an encoder, which this page cannot run.");
    }
    return new Model(compiled, vocabulary, config, card, start ? await statesOf(start) : zeroStates(prefill));
  }

  constructor(compiled, vocabulary, config, card, initial) {
    Object.assign(this, { compiled, vocabulary, card, initial });
    this.defaults = { ...SETTINGS };
    for (const name in SETTINGS) if (name in config.sampling) this.defaults[name] = config.sampling[name];
    const { prefill, sample } = compiled.signatures;
    Object.assign(this, { prefill, sample });
  }

  /** Returns the states at the start of a text. */
  initialStates() {
    return Object.fromEntries(this.initial.map(([name, values]) => [name, new Tensor(values.slice(), [1, values.length])]));
  }

  /**
   * Reads tokens, at least one, and consumes the states; returns the logits after the last token and the new states.
   * Returns null as soon as `isWanted`, which is called now and then, returns false.
   */
  async read(tokens, states, isWanted = () => true) {
    let logits;
    let rested = performance.now();
    for (let start = 0; start < tokens.length; start += STEPS) {
      if (performance.now() - rested > REST) {
        await new Promise((resolve) => setTimeout(resolve)); // a long text must not block the page
        rested = performance.now();
      }
      if (!isWanted()) {
        release(states);
        return null;
      }
      const chunk = tokens.slice(start, start + STEPS);
      const padded = new Int32Array(STEPS);
      padded.set(chunk);
      const inputs = { tokens: new Tensor(padded, [1, STEPS]), length: new Tensor(Int32Array.of(chunk.length), [1]) };
      const outputs = await this.run(this.prefill, inputs, states);
      requireOutputs(outputs, "logits");
      logits = outputs.logits.toTypedArray().slice();
      outputs.logits.delete();
      delete outputs.logits;
      states = outputs;
    }
    return { logits, states };
  }

  /** Returns the sampling settings as inputs; `release` them after the text. */
  settings({ temperature, top_k, top_p, min_p }) {
    return {
      temperature: new Tensor(Float32Array.of(temperature), [1]),
      top_k: new Tensor(Int32Array.of(Math.min(top_k, this.vocabulary.tokens.length)), [1]),
      top_p: new Tensor(Float32Array.of(top_p), [1]),
      min_p: new Tensor(Float32Array.of(min_p), [1]),
    };
  }

  /** Samples the token after `token` and consumes the states; returns the token and the new states. */
  async sampleToken(token, number, settings, states) {
    const inputs = { token: new Tensor(Int32Array.of(token), [1]), uniform: new Tensor(Float32Array.of(number), [1]) };
    const outputs = await this.run(this.sample, inputs, states, settings);
    requireOutputs(outputs, "next_token", "log_probability");
    const { next_token, log_probability, ...after } = outputs;
    const sampled = next_token.toTypedArray()[0];
    const logProbability = log_probability.toTypedArray()[0];
    release({ next_token, log_probability });
    if (!Number.isFinite(logProbability) || this.vocabulary.tokens[sampled] === undefined) {
      release(after);
      throw new Error("The model's logits are not finite.");
    }
    return { token: sampled, states: after };
  }

  /** Runs a signature. Its inputs and states are released, even if it fails; the settings are kept. */
  async run(signature, inputs, states, settings = {}) {
    try {
      return await signature.run({ ...inputs, ...settings, ...states });
    } finally {
      release(inputs, states);
    }
  }

  delete() {
    this.compiled.delete();
  }
}

function requireOutputs(outputs, ...names) {
  if (names.every((name) => name in outputs)) return;
  release(outputs);
  throw new Error(`The model in this file is damaged: it does not return ${names.join(" and ")}.`);
}

/** Returns the states that `start` returns, as pairs of a name and its values. */
async function statesOf(start) {
  const states = await start.run({});
  const values = Object.entries(states).map(([name, tensor]) => [name, tensor.toTypedArray().slice()]);
  release(states);
  return values;
}

/** Returns the states of a file without `start`, in the same form. */
function zeroStates(prefill) {
  const states = prefill.getInputDetails().filter(({ name }) => name.startsWith("state_"));
  return states.map(({ name, shape }) => [name, new Float32Array(shape[1])]);
}

/** Frees the memory of tensors: the runtime has no garbage collector. */
export function release(...groups) {
  for (const group of groups) for (const tensor of Object.values(group)) tensor.delete();
}
