// The draw and the log-probabilities of a model of integers, for programs that run one in another runtime than LiteRT.js.
//
// docs/porting.md, "The integer draw", defines every number here; it is equal bit for bit in Python, JavaScript and C. Numbers
// of up to 63 bits are cut into parts, so that each is exact as a double.

import { changedSettings, SETTINGS } from "./options.js";
export { threefry } from "./random.js";

export const FORBIDDEN = -32768;
export const IMPOSSIBLE = Infinity;
const UNIT = 2 ** 24;
const LARGEST_STEP = 2n ** 47n;
const POWERS = Uint32Array.from({ length: 65 }, (_, index) => Math.floor(2 ** (30 - index / 64) + 0.5));

/** Returns how many octaves one unit of a logit is, times 2^40. `scale` is that of the logits, as float32. */
export function logitStep(scale) {
  if (!(scale >= 2 ** -24 && scale <= 0.5)) throw new RangeError(`scale must be a number from 2^-24 to 0.5. Received: ${scale}`);
  return Math.floor((Math.fround(scale) / Math.LN2) * 2 ** 40 + 0.5);
}

/** Returns settings of `write` as multiples of 2^-24, as C takes them; `top_k` is a count. */
export function integerSettings(settings) {
  const { top_k, ...fractions } = changedSettings(SETTINGS, settings);
  const integers = Object.entries(fractions).map(([name, value]) => [name, Math.floor(value * UNIT + 0.5)]);
  return { ...Object.fromEntries(integers), top_k };
}

/** Returns logits with a number added to each; -Infinity forbids one. The sums are clipped to 16 bits. */
export function addBias(logits, bias, scale) {
  return Int16Array.from(logits, (logit, id) => {
    if (logit === FORBIDDEN || bias[id] === -Infinity) return FORBIDDEN;
    const added = Math.floor(Math.fround(bias[id]) / Math.fround(scale) + 0.5);
    return Math.max(FORBIDDEN + 1, Math.min(32767, logit + added));
  });
}

/** Returns floor(total * fraction / 2^24), or with `added` = 2^24 - 1 the ceiling. */
function shareOf(total, fraction, added = 0) {
  return Math.floor(total / UNIT) * fraction + Math.floor(((total % UNIT) * fraction + added) / UNIT);
}

function largestOf(logits) {
  let largest = FORBIDDEN;
  for (const logit of logits) largest = Math.max(largest, logit);
  if (largest === FORBIDDEN) throw new Error("No token can be drawn: each is forbidden.");
  return largest;
}

/** Returns a function from a difference of logits to 2^30 * 2^(-difference * step / 2^40), by linear interpolation. */
function weightsAt(step) {
  const low = step % UNIT;
  const high = (step - low) / 2 ** 18;
  return (difference) => {
    const octaves = difference * high + Math.floor((difference * low) / 2 ** 18); // times 2^22
    const whole = Math.floor(octaves / 2 ** 22);
    if (whole >= 31) return 0;
    const rest = octaves - whole * 2 ** 22;
    const index = rest >>> 16;
    return (POWERS[index] - Math.floor(((POWERS[index] - POWERS[index + 1]) * (rest & 0xffff)) / 2 ** 16)) >>> whole;
  };
}

/** Returns the weights of logits of at least a threshold; 0 for the others. */
function weightsOf(logits, largest, weightOf, threshold = FORBIDDEN + 1) {
  const weights = new Uint32Array(logits.length);
  for (let id = 0; id < logits.length; id++) if (logits[id] >= threshold) weights[id] = weightOf(largest - logits[id]);
  return weights;
}

/** Draws tokens with some settings, those of `write`. */
export class IntegerDraw {
  #settings;
  #weightOf;

  /** `step` is the `logitStep` of the model. */
  constructor(step, settings = {}) {
    this.#settings = integerSettings(settings);
    const { temperature } = this.#settings;
    if (temperature === 0) return;
    const exact = (BigInt(step) << 24n) / BigInt(temperature);
    this.#weightOf = weightsAt(Number(exact < LARGEST_STEP ? exact : LARGEST_STEP));
  }

  /** Returns the id that is drawn from logits of 16 bits with a number below 2^24: the word of `threefry` >>> 8. */
  next(logits, uniform24) {
    const largest = largestOf(logits);
    if (this.#settings.temperature === 0) return logits.indexOf(largest);
    const weights = this.#weights(logits, largest);
    const target = shareOf(sum(weights), uniform24);
    let id = 0;
    for (let cumulative = weights[0]; cumulative <= target; cumulative += weights[id]) id += 1;
    return id;
  }

  /** Returns the weight of each token; 0 if it may not be drawn. */
  #weights(logits, largest) {
    const lightest = this.#settings.min_p * 64;
    const weights = weightsOf(logits, largest, this.#weightOf, this.#threshold(logits, largest));
    for (let id = 0; id < weights.length; id++) if (weights[id] < lightest) weights[id] = 0;
    return weights;
  }

  /** Returns the smallest logit that `top_k` and `top_p` keep. */
  #threshold(logits, largest) {
    const { top_k, top_p } = this.#settings;
    if (top_k === 0 && top_p === UNIT) return FORBIDDEN + 1;
    const descending = Int16Array.from(logits).sort().reverse();
    let kept = descending.subarray(0, descending.includes(FORBIDDEN) ? descending.indexOf(FORBIDDEN) : undefined);
    if (top_k > 0 && top_k < kept.length) kept = kept.subarray(0, kept.lastIndexOf(kept[top_k - 1]) + 1);
    if (top_p === UNIT) return kept.at(-1);
    const weights = weightsOf(kept, largest, this.#weightOf);
    const needed = shareOf(sum(weights), top_p, UNIT - 1);
    let last = 0;
    for (let mass = weights[0]; mass < needed; mass += weights[last]) last += 1;
    return kept[last];
  }
}

function sum(numbers) {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

/** Returns the logarithm to base 2 of a positive integer below 2^53, times 2^24, digit by digit. */
function log2(number) {
  const high = Math.floor(number / 2 ** 32);
  let result = high ? 63 - Math.clz32(high) : 31 - Math.clz32(number);
  let square = Math.floor(number * 2 ** (31 - result)); // from 2^31 up to 2^32, that is from 1 up to 2
  for (let bit = 0; bit < 24; bit++) {
    const low = square % 2 ** 16;
    const rest = (square - low) / 2 ** 16;
    square = 2 * rest * rest + Math.floor((2 ** 17 * rest * low + low * low) / 2 ** 31); // square * square >> 31
    const digit = square >= 2 ** 32 ? 1 : 0;
    result = 2 * result + digit;
    square = Math.floor(square / 2 ** digit);
  }
  return result;
}

/**
 * Returns the cost of each token among all that are not forbidden, `each`, and that of any of some ids, `group`. A cost is a negative
 * log-probability in units of 2^-24 octaves: 2^24 is a probability of a half. Costs of the tokens of a word add up to that of the word.
 */
export function costs(logits, step, ids = []) {
  const largest = largestOf(logits);
  const weights = weightsOf(logits, largest, weightsAt(step));
  const total = log2(sum(weights));
  const [low, high] = [step % 2 ** 16, Math.floor(step / 2 ** 16)];
  const octaves = (difference) => difference * high + Math.floor((difference * low) / 2 ** 16);
  const costOf = (logit) => (logit === FORBIDDEN ? IMPOSSIBLE : octaves(largest - logit) + total - 30 * UNIT);
  const together = sum(Array.from(ids, (id) => weights[id]));
  return { each: Float64Array.from(logits, costOf), group: together ? total - log2(together) : IMPOSSIBLE };
}
