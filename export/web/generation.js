// The token loop, which can stop between two tokens and resume later.

import { release } from "./model.js";
import { uniform } from "./random.js";

/** A continuation of a prompt: token i is sampled with uniform(seed, i), as in every other runtime. */
export class Generation {
  /**
   * @param {Model} model
   * @param {string} prompt
   * @param {{seed: bigint, maxTokens: number, settings: object}} options settings: temperature, top_k, top_p, min_p
   */
  constructor(model, prompt, { seed, maxTokens, settings }) {
    this.model = model;
    this.context = [model.vocabulary.startId, ...model.vocabulary.encode(prompt)];
    this.settings = model.settings(settings);
    Object.assign(this, { seed, maxTokens, position: 0, before: prompt, finishReason: null });
  }

  /** Samples the next token; returns its text, or null at the end, when `finishReason` says why. */
  async next() {
    if (this.finishReason === null && this.position === this.maxTokens) this.end("length");
    if (this.finishReason !== null) return null;
    const { model, context } = this;
    const states = this.states ?? (await this.readContext());
    this.states = null;
    const sampled = await model.sampleToken(context.at(-1), uniform(this.seed, this.position), this.settings, states);
    this.states = sampled.states;
    this.position += 1;
    if (sampled.token === model.vocabulary.eosId) {
      this.end("eos");
      return null;
    }
    this.context = [sampled.token];
    this.before = model.vocabulary.piece(sampled.token, this.before);
    return this.before;
  }

  async readContext() {
    const states = this.model.initialStates();
    const before = this.context.slice(0, -1);
    return before.length ? (await this.model.read(before, states)).states : states;
  }

  /** Ends the text and frees its memory; must not be called while `next` runs. */
  end(reason = "stopped") {
    if (this.finishReason !== null) return;
    this.finishReason = reason;
    release(this.settings, this.states ?? {});
    this.states = null;
  }
}
