// A language model in LiteRT.js: states in, states out, a token at a time.

import { loadAndCompile, loadLiteRt, Tensor } from "@litertjs/core";
import { readBundle } from "./bundle.js";

const STEPS = 64; // that `prefill` reads at once
const SETTINGS = { temperature: 1, top_k: 0, top_p: 1, min_p: 0 };

let runtime;

/** Loads LiteRT.js, once, from a folder with its wasm files. */
export function loadRuntime(folder) {
  runtime ??= loadLiteRt(folder);
  return runtime;
}

/** The model of a file. What it gives as states belongs to the caller: `release` them when they are done with. */
export class Model {
  static async load(bytes) {
    const { vocabulary, config, card, model } = await readBundle(bytes);
    await runtime;
    const compiled = await loadAndCompile(model, { accelerator: "wasm" });
    return new Model(compiled, vocabulary, config, card);
  }

  constructor(compiled, vocabulary, config, card) {
    Object.assign(this, { compiled, vocabulary, card });
    this.defaults = { ...SETTINGS };
    for (const name in SETTINGS) if (name in config.sampling) this.defaults[name] = config.sampling[name];
    if ((config.sampling.repetition_penalty ?? 1) !== 1) {
      throw new Error("This file was exported with a repetition_penalty, which its own draw does not know.");
    }
    const { prefill, sample } = compiled.signatures;
    if (!prefill || !sample) throw new Error("This file lacks the signatures prefill and sample: export it again.");
    Object.assign(this, { prefill, sample });
    this.shapes = prefill.getInputDetails().filter(({ name }) => name.startsWith("state_"));
  }

  /** The zero states at the beginning of a text. */
  initialStates() {
    return Object.fromEntries(this.shapes.map(({ name, shape }) => [name, new Tensor(new Float32Array(shape[1]), [1, shape[1]])]));
  }

  /** Reads tokens, at least one; takes the states over, and returns the logits after the last and the new states. */
  async read(tokens, states) {
    let logits;
    for (let start = 0; start < tokens.length; start += STEPS) {
      const piece = new Int32Array(STEPS);
      const some = tokens.slice(start, start + STEPS);
      piece.set(some);
      const inputs = { tokens: new Tensor(piece, [1, STEPS]), length: new Tensor(Int32Array.of(some.length), [1]) };
      const outputs = await this.prefill.run({ ...inputs, ...states });
      release(inputs, states);
      logits = outputs.logits.toTypedArray().slice();
      outputs.logits.delete();
      delete outputs.logits;
      states = outputs;
    }
    return { logits, states };
  }

  /** Makes the inputs that say how tokens are drawn; `release` them after the text. */
  settings(chosen) {
    const { temperature, top_k, top_p, min_p } = { ...this.defaults, ...chosen };
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
    const { next_token, log_probability, ...after } = await this.sample.run({ ...inputs, ...settings, ...states });
    const drawn = next_token.toTypedArray()[0];
    const chance = log_probability.toTypedArray()[0];
    release(inputs, states, { next_token, log_probability });
    if (!Number.isFinite(chance)) {
      release(after);
      throw new Error("The model's logits must be numbers; these are not.");
    }
    return { token: drawn, states: after };
  }

  delete() {
    this.compiled.delete();
  }
}

/** Gives the memory of tensors back to the runtime, which has no garbage collector. */
export function release(...groups) {
  for (const group of groups) for (const tensor of Object.values(group)) tensor.delete();
}
