// The bundle at the end of a .tflite of keras_seq: a zip with vocab.txt, config.json and card.json.
//
// docs/formats.md describes it byte by byte. Every reader accepts the same files, so nothing here is lenient.

import { isRate, requireKnown, requireOption, requireSettings, SETTINGS } from "./options.js";
import { Vocabulary } from "./vocabulary.js";

const FORMAT = 2;
const LARGEST = { "vocab.txt": 2 ** 24, "config.json": 2 ** 20, "card.json": 2 ** 20 }; // bytes, unpacked
export const LARGEST_FILE = 2 ** 31;
const LARGEST_DIRECTORY = 2 ** 16;
const MOST_TOKENS = 2 ** 19;
const DEEPEST = 20; // objects and lists inside each other
const DAMAGED = "This file has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export";

function damaged(reason) {
  return new Error(`${DAMAGED} (${reason}).`);
}

/** Returns the vocabulary, configuration, card and model of a file; verifies their hashes. */
export async function readBundle(bytes) {
  if (bytes.length < 8 || ascii(bytes, 4, 8) !== "TFL3") throw new Error("This is not a .tflite file.");
  if (bytes.length > LARGEST_FILE) throw new Error("This file is larger than a .tflite can be.");
  const { parts, begin } = entries(bytes);
  if (!parts.has("config.json")) throw damaged("it has no config.json");
  const { value: config, integers } = await jsonPart(parts, "config.json");
  requireConfig(config, integers, bytes, begin);
  const card = parts.has("card.json") ? (await jsonPart(parts, "card.json")).value : {};
  if (!isObject(card)) throw damaged("card.json is not an object");
  if (!parts.has("vocab.txt")) throw new Error("This file has no vocabulary, so it cannot write text.");
  requireForText(config, integers);
  if (!globalThis.crypto?.subtle) throw new Error("A page needs https or localhost to open a file: this address is plain http.");
  const model = bytes.subarray(0, config.model_bytes);
  if (hexOf(await sha256(model)) !== config.model_sha256) throw new Error("The model in this file is damaged: its SHA-256 differs.");
  const words = await unpack(parts, "vocab.txt");
  if (hexOf(await sha256(words)) !== config.vocabulary_sha256) {
    throw new Error("The vocabulary in this file is damaged: its SHA-256 differs.");
  }
  if (words.reduce((tokens, byte) => tokens + (byte === 10), 0) > MOST_TOKENS) {
    throw new Error(`The vocabulary in this file has more than the ${MOST_TOKENS} tokens that are allowed.`);
  }
  const vocabulary = new Vocabulary(utf8(words, "vocab.txt", true));
  requireBias(config.sampling, vocabulary);
  return { vocabulary, config, card, model };
}

// ---- the zip ----

function ascii(bytes, start, end) {
  return String.fromCharCode(...bytes.subarray(start, end));
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Returns where the directory lies, and the number of its entries. */
function directoryOf(bytes, view) {
  const end = bytes.length - 22;
  if (end < 0 || ascii(bytes, end, end + 4) !== "PK\x05\x06") throw damaged("it does not end with a zip");
  const [disk, first, count, total] = [4, 6, 8, 10].map((offset) => view.getUint16(end + offset, true));
  const [size, start] = [view.getUint32(end + 12, true), view.getUint32(end + 16, true)];
  const isPlain = disk === 0 && first === 0 && count === total && view.getUint16(end + 20, true) === 0;
  if (!isPlain || start + size !== end) throw damaged("the end of its zip is wrong");
  if (size > LARGEST_DIRECTORY) throw damaged("its directory is too large");
  return { count, start, end };
}

/** Returns the parts of the zip by their names, and where the zip begins. */
function entries(bytes) {
  const view = viewOf(bytes);
  const { count, start, end } = directoryOf(bytes, view);
  const parts = new Map();
  let begin = start;
  let at = start;
  for (let number = 0; number < count; number++) {
    if (at + 46 > end || ascii(bytes, at, at + 4) !== "PK\x01\x02") throw damaged("its directory is wrong");
    const [nameSize, extraSize, commentSize] = [28, 30, 32].map((offset) => view.getUint16(at + offset, true));
    const next = at + 46 + nameSize + extraSize + commentSize;
    if (next > end) throw damaged("its directory is wrong");
    const name = ascii(bytes, at + 46, at + 46 + nameSize);
    if (parts.has(name)) throw damaged(`two of its parts are called ${name.slice(0, 40)}`);
    const part = partAt(bytes, view, at, start);
    parts.set(name, part);
    begin = Math.min(begin, part.begin);
    at = next;
  }
  if (at !== end) throw damaged("its directory is wrong");
  return { parts, begin };
}

/** Returns the part that an entry of the directory describes; its local header must say the same. */
function partAt(bytes, view, entry, directory) {
  const [flags, method] = [view.getUint16(entry + 8, true), view.getUint16(entry + 10, true)];
  const [sum, packedSize, size] = [16, 20, 24].map((offset) => view.getUint32(entry + offset, true));
  if (flags !== 0 || (method !== 0 && method !== 8)) throw damaged("a part is neither stored nor deflated");
  const begin = view.getUint32(entry + 42, true);
  const nameSize = view.getUint16(entry + 28, true);
  const start = begin + 30 + nameSize;
  if (start + packedSize > directory) throw damaged("a part lies outside of it");
  const agrees =
    ascii(bytes, begin, begin + 4) === "PK\x03\x04" &&
    ascii(bytes, begin + 4, begin + 28) === ascii(bytes, entry + 6, entry + 30) &&
    view.getUint16(begin + 28, true) === 0 &&
    ascii(bytes, begin + 30, start) === ascii(bytes, entry + 46, entry + 46 + nameSize);
  if (!agrees) throw damaged("a part differs from the directory");
  return { packed: bytes.subarray(start, start + packedSize), begin, method, sum, size };
}

async function unpack(parts, name) {
  const { packed, method, sum, size } = parts.get(name);
  if (size > LARGEST[name]) {
    throw new Error(`${name} in this file has ${size} bytes, more than the ${LARGEST[name]} that are allowed.`);
  }
  const content = method === 0 ? packed : await inflate(packed, size);
  if (content.length !== size || crc32(content) !== sum) throw damaged(`${name} is damaged`);
  return content;
}

async function inflate(packed, size) {
  const content = await inflated(packed, size);
  // Node ignores bytes after the end of the packed content. Where there are none, it is incomplete without its last byte.
  if (!content || (await inflated(packed.subarray(0, -1), size))) throw damaged("a part cannot be unpacked");
  return content;
}

/** Returns the unpacked content; null if it is incomplete, damaged or of another size. */
async function inflated(packed, size) {
  const content = new Uint8Array(size);
  let filled = 0;
  try {
    const reader = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      content.set(read.value, filled); // throws if there is more than the stated size
      filled += read.value.length;
    }
  } catch {
    return null;
  }
  return filled === size ? content : null;
}

function crc32(bytes) {
  let rest = ~0;
  for (const byte of bytes) {
    rest ^= byte;
    for (let bit = 0; bit < 8; bit++) rest = (rest >>> 1) ^ (rest & 1 ? 0xedb88320 : 0);
  }
  return ~rest >>> 0;
}

/** Returns the SHA-256 of bytes, 32 bytes. */
export async function sha256(bytes) {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
}

/** Returns bytes in hexadecimal digits. */
export function hexOf(bytes) {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---- the configuration ----

function utf8(bytes, name, ignoreBOM = false) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM }).decode(bytes);
  } catch {
    throw damaged(`${name} is not UTF-8`);
  }
}

const STRING_OR_NUMBER = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*/g;
const FRACTION = /^-?\d+[.eE]/; // 1.0 and 1e0 are not integers

/** Returns the value of a JSON part, and the same value without its numbers that are not written as integers: these are null. */
async function jsonPart(parts, name) {
  const text = utf8(await unpack(parts, name), name);
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    throw damaged(`${name} is not JSON`);
  }
  requireFlat(value, name);
  const integers = text.replace(STRING_OR_NUMBER, (one) => {
    if (!FRACTION.test(one)) return one;
    if (!Number.isFinite(Number(one))) throw damaged(`a number in ${name} is not finite`);
    return "null";
  });
  return { value, integers: JSON.parse(integers) };
}

function requireFlat(value, name) {
  const inside = (one) => (typeof one === "object" && one !== null ? Object.values(one) : []);
  let level = [value];
  for (let depth = 0; (level = level.flatMap(inside)).length; depth++) {
    if (depth === DEEPEST) throw damaged(`${name} is nested too deeply`);
  }
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCount(value) {
  return Number.isInteger(value) && value > 0 && value < 2 ** 31;
}

function requireConfig(config, integers, bytes, begin) {
  if (!isObject(config) || integers.format !== FORMAT) {
    const found = String(config?.format).slice(0, 40);
    throw new Error(`This file has the bundle format ${found}, not ${FORMAT}: export it again, or update this program.`);
  }
  const { model_bytes: size, batch } = integers;
  const { state, sampling, learning } = config; // that of a file that learns
  const isValid = {
    model_bytes: isCount(size) && size >= 12 && size === begin,
    batch: isCount(batch),
    state: state === "explicit" || state === "internal",
    sampling: isObject(sampling),
    learning: learning === undefined || (isObject(learning) && isRate(learning.rate)),
  };
  for (const [name, valid] of Object.entries(isValid)) if (!valid) throw damaged(`${name} in config.json is wrong`);
  const root = viewOf(bytes).getUint32(0, true);
  if (root < 8 || root > size - 4) throw damaged("its model does not begin as a .tflite does");
}

/** Refuses files with which a text cannot be written here. */
function requireForText({ quantization, state, batch, sampling }, integers) {
  if (quantization === "integer") {
    throw new Error("LiteRT.js cannot run a file of integers: export the model with another quantization, such as int8.");
  }
  if (state !== "explicit" || batch !== 1) {
    throw new Error("A file with explicit states and one row is needed: export it without --state and --batch.");
  }
  const { repetition_penalty = 1, allow_unk = false, top_k } = sampling;
  if (repetition_penalty !== 1) {
    throw new Error("This file was exported with a repetition_penalty, which its signature `sample` does not support.");
  }
  requireKnown(sampling, [...Object.keys(SETTINGS), "repetition_penalty", "allow_unk", "bias"]);
  requireSettings(sampling);
  requireOption("top_k", "an integer", integers.sampling.top_k === top_k, `${top_k} with a fraction or an exponent`);
  requireOption("allow_unk", "true or false", typeof allow_unk === "boolean", allow_unk);
}

/** Requires that a stored bias is for tokens that are drawn; the model has it built in. */
function requireBias({ bias = {}, allow_unk }, { tokens, padId, startId, unknownId }) {
  const never = [padId, startId, allow_unk ? -1 : unknownId, -1];
  const isBias = ([token, value]) => !never.includes(tokens.indexOf(token)) && typeof value === "number" && Math.abs(value) <= 1e30;
  const isValid = isObject(bias) && Object.entries(bias).every(isBias);
  requireOption("bias", "an object of numbers from -1e30 to 1e30 for tokens that may be drawn", isValid, JSON.stringify(bias));
}
