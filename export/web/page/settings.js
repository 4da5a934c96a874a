// The fields of the settings: one slider, and the rest under More.

import { isSeed } from "../keras_seq/options.js";
import { newSeed } from "../keras_seq/random.js";

const NAMES = ["temperature", "top_k", "top_p", "min_p"];
const NUMBERS = [...NAMES, "max_tokens"];

/** Events: "change" when the user has changed a setting that is valid; "invalid" before a wrong field is shown to the user. */
export class Settings extends EventTarget {
  #fields;
  #slider;
  #shown;

  /** `at(id)` returns an element of the page. */
  constructor(at) {
    super();
    this.#fields = Object.fromEntries([...NUMBERS, "seed", "new_seed"].map((name) => [name, at(name)]));
    this.#slider = at("wildness");
    this.#shown = at("wildness_value");
    for (const name of NUMBERS) this.#fields[name].addEventListener("input", () => this.#onInput(name));
    this.#slider.addEventListener("input", () => {
      this.#fields.temperature.value = this.#slider.value;
      this.#onInput("temperature");
    });
    this.#fields.seed.addEventListener("input", () => {
      this.#fields.new_seed.checked = false; // A typed seed is kept.
      this.#checkSeed();
      if (this.#fields.seed.validity.valid) this.#tell();
    });
    at("dice").addEventListener("click", () => {
      this.drawSeed();
      this.#tell();
    });
    this.drawSeed();
  }

  /** The sampling settings, with the names that they have in every runtime. */
  get sampling() {
    return Object.fromEntries(NAMES.map((name) => [name, Number(this.#fields[name].value)]));
  }

  get maxTokens() {
    return Number(this.#fields.max_tokens.value);
  }

  get seed() {
    return BigInt(this.#fields.seed.value.trim());
  }

  /** Fills in some of the settings, for which the user need not be asked. */
  fill({ sampling = {}, maxTokens, seed, newSeed: isNew }) {
    for (const name of NAMES) if (sampling[name] !== undefined) this.#fields[name].value = sampling[name];
    if (maxTokens !== undefined) this.#fields.max_tokens.value = maxTokens;
    if (seed !== undefined) this.#fields.seed.value = seed;
    if (isNew !== undefined) this.#fields.new_seed.checked = isNew;
    this.#checkSeed();
    this.#showTemperature();
  }

  /** Takes another seed. */
  drawSeed() {
    this.#fields.seed.value = newSeed();
    this.#checkSeed();
  }

  /** Takes another seed if the user wants a new one for each text. */
  nextSeed() {
    if (this.#fields.new_seed.checked) this.drawSeed();
  }

  /** Whether all fields are valid; shows the user the first that is not. */
  require() {
    const wrong = [...NUMBERS, "seed"].map((name) => this.#fields[name]).find((field) => !field.validity.valid);
    if (!wrong) return true;
    this.dispatchEvent(new Event("invalid"));
    wrong.reportValidity();
    return false;
  }

  /** What `fill` takes, as plain values; without settings that are wrong. */
  state() {
    const valid = (name) => (this.#fields[name].validity.valid ? this.#fields[name].value : undefined);
    const sampling = Object.fromEntries(NAMES.map((name) => [name, valid(name)]));
    return { sampling, maxTokens: valid("max_tokens"), seed: valid("seed"), newSeed: this.#fields.new_seed.checked };
  }

  #onInput(name) {
    if (name === "temperature") this.#showTemperature();
    if (this.#fields[name].validity.valid) this.#tell(name);
  }

  #showTemperature() {
    const { value } = this.#fields.temperature;
    this.#slider.value = value;
    this.#shown.value = value;
    this.#slider.setAttribute("aria-valuetext", `temperature ${value}`);
  }

  #checkSeed() {
    const { seed } = this.#fields;
    seed.setCustomValidity("");
    if (seed.validity.valid && !isSeed(this.seed)) seed.setCustomValidity("A seed is a 64-bit integer.");
  }

  #tell(name) {
    this.dispatchEvent(new CustomEvent("change", { detail: { name } }));
  }
}
