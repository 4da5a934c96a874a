// A language model in LiteRT.js: states in, states out, a token at a time.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { readBundle } from "./bundle.js";

const STEPS = 64; // that `prefill` reads at once
const REST = 30; // milliseconds of reading between two looks at what else the page has to do
const SETTINGS = { temperature: 1, top_k: 0, top_p: 1, min_p: 0 };

let runtime;

/** Loads LiteRT.js with its wasm, once. */
export function loadRuntime() {
  runtime ??= loadLiteRt("./node_modules/@litertjs/core/wasm/").catch(() => {
    runtime = undefined; // so that it can be tried again
    throw new Error("LiteRT.js cannot be loaded: is there a network, and has this page node_modules/@litertjs/core?");
  });
  return runtime;
}

/** The model of a file. What it gives as states belongs to the caller: `release` them when they are done with. */
export class Model {
  static async load(bytes) {
    const { vocabulary, config, card, model } = await readBundle(bytes);
    if ((config.sampling.repetition_penalty ?? 1) !== 1) {
      throw new Error("This file was exported with a repetition_penalty, which its own draw does not know.");
    }
    await loadRuntime();
    const compiled = await loadAndCompile(model, { accelerator: "wasm" });
    const { prefill, sample } = compiled.signatures;
    if (!prefill || !sample) {
      compiled.delete();
      throw new Error("This file lacks the signatures prefill and sample: export it again.");
    }
    return new Model(compiled, vocabulary, config, card);
  }

  constructor(compiled, vocabulary, config, card) {
    Object.assign(this, { compiled, vocabulary, card });
    this.defaults = { ...SETTINGS };
    for (const name in SETTINGS) if (name in config.sampling) this.defaults[name] = config.sampling[name];
    const { prefill, sample } = compiled.signatures;
    Object.assign(this, { prefill, sample });
    this.shapes = prefill.getInputDetails().filter(({ name }) => name.startsWith("state_"));
  }

  /** The zero states at the beginning of a text. */
  initialStates() {
    return Object.fromEntries(this.shapes.map(({ name, shape }) => [name, new Tensor(new Float32Array(shape[1]), [1, shape[1]])]));
  }

  /**
   * Reads tokens, at least one; takes the states over, and returns the logits after the last and the new states.
   * `goesOn` is asked now and then; where it says no, null is returned.
   */
  async read(tokens, states, goesOn = () => true) {
    let logits;
    let rested = performance.now();
    for (let start = 0; start < tokens.length; start += STEPS) {
      if (performance.now() - rested > REST) {
        await new Promise((resolve) => setTimeout(resolve)); // a long text must not hold the page up
        rested = performance.now();
      }
      if (!goesOn()) {
        release(states);
        return null;
      }
      const piece = new Int32Array(STEPS);
      const some = tokens.slice(start, start + STEPS);
      piece.set(some);
      const inputs = { tokens: new Tensor(piece, [1, STEPS]), length: new Tensor(Int32Array.of(some.length), [1]) };
      const outputs = await this.run(this.prefill, inputs, states);
      logits = outputs.logits.toTypedArray().slice();
      outputs.logits.delete();
      delete outputs.logits;
      states = outputs;
    }
    return { logits, states };
  }

  /** Makes the inputs that say how tokens are drawn; `release` them after the text. */
  settings({ temperature, top_k, top_p, min_p }) {
    return {
      temperature: new Tensor(Float32Array.of(temperature), [1]),
      top_k: new Tensor(Int32Array.of(Math.min(top_k, this.vocabulary.tokens.length)), [1]),
      top_p: new Tensor(Float32Array.of(top_p), [1]),
      min_p: new Tensor(Float32Array.of(min_p), [1]),
    };
  }

  /** Draws the token after `token`; takes the states over, and returns the token and the new states. */
  async draw(token, number, settings, states) {
    const inputs = { token: new Tensor(Int32Array.of(token), [1]), uniform: new Tensor(Float32Array.of(number), [1]) };
    const { next_token, log_probability, ...after } = await this.run(this.sample, inputs, states, settings);
    const drawn = next_token.toTypedArray()[0];
    const chance = log_probability.toTypedArray()[0];
    release({ next_token, log_probability });
    if (!Number.isFinite(chance) || this.vocabulary.tokens[drawn] === undefined) {
      release(after);
      throw new Error("The model's logits must be numbers; these are not.");
    }
    return { token: drawn, states: after };
  }

  /** Runs a signature; its inputs and states are used up, whether it succeeds or not, the settings are kept. */
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

/** Gives the memory of tensors back to the runtime, which has no garbage collector. */
export function release(...groups) {
  for (const group of groups) for (const tensor of Object.values(group)) tensor.delete();
}
