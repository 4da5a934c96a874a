// The file of what was learned, format 1: docs/formats.md describes it byte by byte. Pure, but for SHA-256.
//
// "KSLEARN1" | SHA-256 of the model | uint32 size of the vocabulary | uint32 features | uint64 tokens learned from |
// 3 float32 log_shares | float32 weights, row by row | uint32 size of the own words | own words, UTF-8 |
// SHA-256 of all before. Little-endian.

import { hexOf, sha256 } from "./bundle.js";
import { OwnWords } from "./own_words.js";

const MAGIC = "KSLEARN";
const FORMAT = "1";
const HASH = 32; // bytes
const SHARES = 3;
const SHARES_AT = 8 + HASH + 4 + 4 + 8;
const WEIGHTS_AT = SHARES_AT + 4 * SHARES;

/**
 * Returns the bytes of what was learned.
 *
 * @param {{weights: Float32Array, logShares: Float32Array, tokens: number, words: OwnWords}} learned
 * @param {{hash: string, size: number}} model its SHA-256 in hexadecimal digits, and the size of its vocabulary
 */
export async function learnedFile({ weights, logShares, tokens, words }, { hash, size }) {
  const encoded = new TextEncoder().encode(words.toText());
  const bytes = new Uint8Array(WEIGHTS_AT + 4 * weights.length + 4 + encoded.length + HASH);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC + FORMAT));
  for (let at = 0; at < HASH; at++) bytes[8 + at] = parseInt(hash.slice(2 * at, 2 * at + 2), 16);
  view.setUint32(40, size, true);
  view.setUint32(44, weights.length / size, true);
  view.setBigUint64(48, BigInt(tokens), true);
  writeReals(view, SHARES_AT, logShares);
  writeReals(view, WEIGHTS_AT, weights);
  const wordsAt = WEIGHTS_AT + 4 * weights.length;
  view.setUint32(wordsAt, encoded.length, true);
  bytes.set(encoded, wordsAt + 4);
  bytes.set(await sha256(bytes.subarray(0, -HASH)), bytes.length - HASH);
  return bytes;
}

/** Returns what a file holds, as `learnedFile` takes it; `model` also has the number of `features`. */
export async function readLearned(bytes, { hash, size, features }) {
  await requireWhole(bytes);
  if (hexOf(bytes.subarray(8, 8 + HASH)) !== hash) {
    throw wrong("belongs to another model: use that model, or learn again in another file");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  const wordsAt = WEIGHTS_AT + 4 * size * features;
  const isSize = view.getUint32(40, true) === size && view.getUint32(44, true) === features;
  const end = wordsAt + 4 + HASH;
  if (!isSize || end > bytes.length || end + view.getUint32(wordsAt, true) !== bytes.length) {
    throw wrong(`is damaged: it must hold ${size} x ${features} weights; delete it and learn again`);
  }
  const [logShares, weights] = [readReals(view, SHARES_AT, SHARES), readReals(view, WEIGHTS_AT, size * features)];
  if (![logShares, weights].every((numbers) => numbers.every(Number.isFinite))) {
    throw wrong("is damaged: its numbers must be finite; delete it and learn again");
  }
  const tokens = Number(view.getBigUint64(48, true));
  return { weights, logShares, tokens, words: wordsOf(bytes.subarray(wordsAt + 4, -HASH)) };
}

function wrong(reason) {
  return new Error(`This file ${reason}.`);
}

/** Requires the magic, the format and the SHA-256 of a file. */
async function requireWhole(bytes) {
  const start = String.fromCharCode(...bytes.subarray(0, 8));
  if (!start.startsWith(MAGIC)) throw wrong("is not a file of learned weights, which begins with KSLEARN1");
  if (start[7] !== FORMAT) {
    const found = start[7] ?? "nothing";
    throw wrong(`must have format ${FORMAT}. Received: ${found}; update this program, or delete it and learn again`);
  }
  const [content, hash] = [bytes.subarray(0, -HASH), bytes.subarray(-HASH)];
  const isWhole = bytes.length >= SHARES_AT + HASH && hexOf(await sha256(content)) === hexOf(hash);
  if (!isWhole) throw wrong("is damaged: its SHA-256 differs; delete it and learn again");
}

function wordsOf(bytes) {
  try {
    return OwnWords.fromText(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (error) {
    const reason = error instanceof TypeError ? "its own words are not UTF-8" : error.message;
    throw wrong(`is damaged: ${reason}; delete it and learn again`);
  }
}

function writeReals(view, at, numbers) {
  numbers.forEach((number, index) => view.setFloat32(at + 4 * index, number, true));
}

function readReals(view, at, count) {
  return Float32Array.from({ length: count }, (_, index) => view.getFloat32(at + 4 * index, true));
}
