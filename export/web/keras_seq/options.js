// The options of a text, with the names, defaults and ranges that they have in every runtime.

import { newSeed } from "./random.js";

export const SETTINGS = { temperature: 1, top_k: 0, top_p: 1, min_p: 0 };
const LARGEST_RATE = 1e6; // of learning
const MOST_TOKENS = 2 ** 32; // positions of the random stream

const isNumber = (value, least, most) => typeof value === "number" && value >= least && value <= most; // not NaN
const RANGES = {
  temperature: ["a number from 0 (greedy) to 1e6", (value) => isNumber(value, 0, 1e6)],
  top_k: ["0 (off) or a positive integer", (value) => (Number.isInteger(value) || value === Infinity) && value >= 0],
  top_p: ["a number above 0 and at most 1 (off)", (value) => isNumber(value, 0, 1) && value > 0],
  min_p: ["a number from 0 (off) to 1", (value) => isNumber(value, 0, 1)],
};

/** Whether a value can be a learning rate. */
export function isRate(value) {
  return isNumber(value, 0, LARGEST_RATE) && value > 0;
}

/** Requires that an option holds what it must; the error says what was received. */
export function requireOption(name, expected, isValid, value) {
  if (isValid) return;
  const shown = typeof value === "string" ? JSON.stringify(value) : String(value);
  throw new RangeError(`${name} must be ${expected}. Received: ${shown.slice(0, 60)}`);
}

/** Returns a copy of the bytes of a learned file: the caller may change its own meanwhile. */
export function learnedBytes(source) {
  const areBytes = source instanceof Uint8Array || source instanceof ArrayBuffer;
  requireOption("the learned file", "a Uint8Array or an ArrayBuffer", areBytes, source);
  return new Uint8Array(source.slice());
}

/** Requires that those settings that are given are in range. */
export function requireSettings(settings) {
  for (const [name, [expected, isValid]] of Object.entries(RANGES)) {
    if (settings[name] !== undefined) requireOption(name, expected, isValid(settings[name]), settings[name]);
  }
}

/** Returns settings of which some are changed. */
export function changedSettings(settings, changes) {
  requireKnown(changes, Object.keys(SETTINGS));
  requireSettings(changes);
  return { ...settings, ...given(changes) };
}

function given(options) {
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

/** Requires that all names are of options. */
export function requireKnown(options, known) {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TypeError(`${name} is not an option. The options are ${known.join(", ")}.`);
  }
}

/** Returns the options of `write`, complete and in range; `defaults` are the settings of the model. */
export function writeOptions(options, defaults) {
  options ??= {};
  requireKnown(options, [...Object.keys(SETTINGS), "max_tokens", "stop", "seed", "signal"]);
  const { max_tokens = 200, stop = [], seed = newSeed(), signal, ...changes } = given(options);
  const isCount = Number.isInteger(max_tokens) && max_tokens >= 1 && max_tokens <= MOST_TOKENS;
  requireOption("max_tokens", "a positive integer", isCount, max_tokens);
  const stops = typeof stop === "string" ? [stop] : stop;
  const areStops = Array.isArray(stops) && stops.every((one) => typeof one === "string" && one !== "" && one.isWellFormed());
  requireOption("stop", "a string or a list of strings, each of at least one character", areStops, stop);
  return { settings: changedSettings(defaults, changes), maxTokens: max_tokens, stops, seed: seedOf(seed), signal };
}

/** Whether a BigInt is a 64-bit integer, signed or unsigned. */
export function isSeed(number) {
  return number >= -(2n ** 63n) && number < 2n ** 64n;
}

function seedOf(seed) {
  const number = typeof seed === "bigint" || Number.isSafeInteger(seed) ? BigInt(seed) : null;
  requireOption("seed", "a 64-bit integer: a BigInt, or a number up to 2^53", number !== null && isSeed(number), seed);
  return number;
}
