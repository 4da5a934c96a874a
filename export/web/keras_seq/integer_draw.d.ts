import { Settings } from "./keras_seq.js";

/** The logit of a token that is never drawn. */
export declare const FORBIDDEN: -32768;
/** The cost of a token that is forbidden: Infinity. */
export declare const IMPOSSIBLE: number;

/** Logits of 16 bits; one is an integer times the scale of the model. */
export type Logits = Int16Array | readonly number[];

/** Returns how many octaves one unit of a logit is, times 2^40. `scale` is that of the logits, from 2^-24 to 0.5. */
export declare function logitStep(scale: number): number;

/** Returns settings as multiples of 2^-24, as the C decoder takes them; `top_k` is a count. */
export declare function integerSettings(settings: Settings): Required<Settings>;

/** Returns logits with a number added to each; -Infinity forbids one. The sums are clipped to 16 bits. */
export declare function addBias(logits: Logits, bias: ArrayLike<number>, scale: number): Int16Array;

/** Draws tokens with some settings. */
export declare class IntegerDraw {
  /** `step` is the `logitStep` of the model. Settings that are left out are off, and the temperature is 1. */
  constructor(step: number, settings?: Settings);
  /** Returns the id that is drawn with a number below 2^24: `threefry(seed, position) >>> 8`. */
  next(logits: Logits, uniform24: number): number;
}

export interface Costs {
  /** Of each token, among all that are not forbidden. */
  readonly each: Float64Array;
  /** Of any of the given ids. */
  readonly group: number;
}

/** Returns negative log-probabilities in units of 2^-24 octaves: 2^24 is a probability of a half. */
export declare function costs(logits: Logits, step: number, ids?: Iterable<number>): Costs;

/** Returns the first word of the random stream for a seed of 64 bits and the position of a token in its text. */
export declare function threefry(seed: bigint, position: number): number;
