// What one model has learned from the user, in the model and in this browser.

import { effectAfter, NO_EFFECT } from "./effect.js";
import { dropLearned, keepLearned, keptLearned } from "./saved.js";

export class Learned {
  bytes = 0; // the size of its file; 0 if nothing is learned
  effect = NO_EFFECT;
  isKept = true; // The browser has it for the next visit.
  key; // by which the browser keeps it
  #model;

  constructor(model) {
    this.#model = model;
    this.key = model.config.model_sha256;
  }

  get tokens() {
    return this.#model.learnedTokens;
  }

  /** Takes over what the browser has kept, or nothing. What cannot be read is removed, and the error says so. */
  async load() {
    const kept = await keptLearned(this.key);
    if (!kept) return this.#take(null, NO_EFFECT);
    try {
      await this.#take(kept.file, { ...NO_EFFECT, ...kept.effect });
    } catch (error) {
      await this.#model.saveLearned(); // This fails too if the file is not the reason.
      await dropLearned(this.key);
      const known = "What this model had learned from you";
      throw new Error(`${known} cannot be read, and was removed: ${error.message}`, { cause: error });
    }
  }

  /** Learns from a text, which the model can read. */
  async learn(text) {
    this.effect = effectAfter(this.effect, text, await this.#model.learn(text));
  }

  /** Keeps what was learned in the browser. */
  async keep() {
    const file = await this.file();
    this.bytes = file?.length ?? 0;
    if (file) this.isKept = await keepLearned(this.key, { file, effect: this.effect });
    else await dropLearned(this.key);
  }

  /** Returns what was learned as a file; null if that is nothing. */
  async file() {
    return this.tokens ? this.#model.saveLearned() : null;
  }

  /** Replaces what was learned by a file or by nothing, also in the browser; returns what brings it back. */
  async replace(file, effect = NO_EFFECT) {
    const before = [await this.file(), this.effect];
    await this.#take(file, effect);
    await this.keep();
    return before;
  }

  async #take(file, effect) {
    if (file) await this.#model.loadLearned(file);
    else if (this.tokens) await this.#model.forget();
    [this.bytes, this.effect] = [file?.length ?? 0, effect];
  }
}
