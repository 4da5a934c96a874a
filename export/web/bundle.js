// The bundle at the end of a .tflite of keras_seq: a zip with vocab.txt, config.json and card.json.

import { Vocabulary } from "./vocabulary.js";

const FORMAT = 2;
const LARGEST = 16 * 2 ** 20; // bytes of an unpacked part
const MOST_TOKENS = 2 ** 19;
const LONGEST = 2 ** 16; // bytes of a token
const DAMAGED = "This file has no complete bundle at its end: it is truncated, or was not made by keras-seq export.";

/** Returns the vocabulary, configuration, card and model of a file; verifies their hashes. */
export async function readBundle(bytes) {
  if (bytes.length < 8 || String.fromCharCode(...bytes.subarray(4, 8)) !== "TFL3") {
    throw new Error("This is not a .tflite file.");
  }
  const parts = zipParts(bytes);
  if (!parts.has("config.json")) throw new Error(DAMAGED);
  const config = await json(parts.get("config.json"));
  if (config?.format !== FORMAT) throw new Error(`This file has the bundle format ${String(config?.format).slice(0, 40)}, not ${FORMAT}: export it again.`);
  if (!(config.model_bytes > 0) || typeof (config.sampling ?? "") !== "object") throw new Error(DAMAGED);
  if (!parts.has("vocab.txt")) throw new Error("This file has no vocabulary, so it cannot write text.");
  if (config.state !== "explicit" || config.batch !== 1) {
    throw new Error("This page needs a file with explicit states and one row: export it without --state and --batch.");
  }
  if (!crypto.subtle) throw new Error("This page needs https or localhost to open a file: this address is plain http.");
  const model = bytes.subarray(0, config.model_bytes);
  if ((await sha256(model)) !== config.model_sha256) throw new Error("The model in this file is damaged: its SHA-256 differs.");
  const words = await unpack(parts.get("vocab.txt"));
  if ((await sha256(words)) !== config.vocabulary_sha256) throw new Error("The vocabulary in this file is damaged: its SHA-256 differs.");
  requireTokens(words);
  const vocabulary = new Vocabulary(new TextDecoder("utf-8", { ignoreBOM: true }).decode(words));
  return { vocabulary, config, card: (parts.has("card.json") && (await json(parts.get("card.json")))) || {}, model };
}

/** Refuses millions of tokens, and tokens of megabytes, before they become objects. */
function requireTokens(words) {
  let tokens = 0;
  let start = 0;
  for (let position = 0; position < words.length; position++) {
    if (words[position] !== 10) continue;
    tokens += 1;
    if (tokens > MOST_TOKENS || position - start > LONGEST) throw new Error("The vocabulary in this file is larger than allowed.");
    start = position + 1;
  }
}

function zipParts(bytes) {
  try {
    return entries(bytes);
  } catch {
    throw new Error(DAMAGED); // an offset in the zip is outside of the file
  }
}

function entries(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = bytes.length - 22;
  if (end < 0 || view.getUint32(end, true) !== 0x06054b50) throw new Error(DAMAGED);
  let entry = end - view.getUint32(end + 12, true);
  const offset = entry - view.getUint32(end + 16, true);
  const parts = new Map();
  while (entry >= 0 && entry + 46 <= end && view.getUint32(entry, true) === 0x02014b50) {
    const nameSize = view.getUint16(entry + 28, true);
    const name = new TextDecoder().decode(bytes.subarray(entry + 46, entry + 46 + nameSize));
    const local = offset + view.getUint32(entry + 42, true);
    if (local + 30 > end) throw new Error(DAMAGED);
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    const packed = bytes.subarray(start, start + view.getUint32(entry + 20, true));
    const [method, sum, size] = [view.getUint16(entry + 10, true), view.getUint32(entry + 16, true), view.getUint32(entry + 24, true)];
    parts.set(name, { name, packed, method, sum, size });
    entry += 46 + nameSize + view.getUint16(entry + 30, true) + view.getUint16(entry + 32, true);
  }
  return parts;
}

async function unpack({ name, packed, method, sum, size }) {
  if (size > LARGEST) throw new Error(`${name} in this file is larger than allowed.`);
  const content = method === 0 ? packed : await inflate(packed, size);
  if (content.length !== size || crc32(content) !== sum) throw new Error(DAMAGED);
  return content;
}

async function inflate(packed, size) {
  const content = new Uint8Array(size);
  let filled = 0;
  try {
    for await (const chunk of new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw"))) {
      content.set(chunk, filled); // throws if there is more than the stated size
      filled += chunk.length;
    }
  } catch {
    throw new Error(DAMAGED);
  }
  if (filled !== size) throw new Error(DAMAGED);
  return content;
}

function crc32(bytes) {
  let rest = ~0;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? 0xedb88320 : 0);
  }
  return ~rest >>> 0;
}

async function json(part) {
  try {
    return JSON.parse(new TextDecoder().decode(await unpack(part)));
  } catch {
    throw new Error(DAMAGED);
  }
}

async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
