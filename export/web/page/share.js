// A text's beginning, its seed and its settings as a link. All of it is in the fragment, which browsers send to no server.

import { requireOption, SETTINGS, writeOptions } from "../keras_seq/options.js";

// Characters. A message of Telegram holds 4,096, the least among the large messengers but Discord (2,000); browsers take far more.
const LONGEST = 4000;
const HASH_DIGITS = 8; // of the 64 of a model's SHA-256: enough to tell two files of a person apart
// What a link has, in this order. The hash is last and always there, so a link that was cut off is recognized.
const FIELDS = ["prompt", "seed", "max", ...Object.keys(SETTINGS), "model", "sha256"];
const OPTIONAL = Object.keys(SETTINGS); // the default of each is that of SETTINGS
const NUMBER = /^(?:[\d.eE+-]+|Infinity)$/; // Number() alone takes "" and " 1" and "0x1" as well
const LEARNED =
  "Your model has learned from you, so this text is another one than the sender’s. " +
  "To see that one, let it forget, and follow the link again.";
const IS_LOCAL = /^(?:(?:.*\.)?localhost|127(?:\.\d+){3}|\[::1\])$/;

/**
 * What a link says.
 * @typedef {object} Shared
 * @property {string} prompt the text that the model continues
 * @property {bigint} seed
 * @property {{temperature: number, top_k: number, top_p: number, min_p: number}} settings
 * @property {number} maxTokens 0 if nothing continues the text
 * @property {{name: string, sha256: string}} model the name of the file, and the SHA-256 of its config (`model_sha256`), of which a
 *   link keeps the first 8 digits
 */

/**
 * Returns a link to the page at `address` (that of the open page, as a rule: its query is kept, so that `?model=` still works).
 * @param {string} address
 * @param {Shared} shared
 * @returns {string}
 * @throws {Error} a value is out of range; the text has half of a character; the link would be too long
 */
export function linkTo(address, { prompt, seed, settings, maxTokens, model }) {
  if (!prompt.isWellFormed()) {
    const half = [...prompt].find((one) => !one.isWellFormed()).charCodeAt().toString(16).toUpperCase();
    throw new Error(`The text has half of a character (U+${half}), which a link cannot hold. Delete it and share again.`);
  }
  const checked = writeOptions({ ...settings, seed, max_tokens: maxTokens === 0 ? 1 : maxTokens }, SETTINGS);
  const own = { prompt, model: model.name, sha256: hashOf(model) };
  const given = { ...own, seed: checked.seed, max: maxTokens, ...checked.settings };
  const fields = FIELDS.filter((name) => given[name] !== SETTINGS[name]).map((name) => [name, given[name]]);
  const link = new URL(address);
  link.hash = new URLSearchParams(fields);
  if (link.href.length <= LONGEST) return link.href;
  const [length, longest] = [link.href.length, LONGEST].map((it) => it.toLocaleString("en"));
  const reason = `the link would have ${length} characters, but messengers take ${longest}`;
  throw new Error(`The text is too long for a link: ${reason}. Share a shorter text, or copy the text instead.`);
}

/**
 * Returns what the fragment of an address says (`location.hash`); null if it is not that of a link.
 * @param {string} hash
 * @returns {Shared | null}
 * @throws {Error} the link is damaged or incomplete
 */
export function readLink(hash) {
  const content = hash.replace(/^#/, "");
  if (!FIELDS.some((name) => content.startsWith(`${name}=`))) return null;
  try {
    const { prompt, seed, max, model: name, sha256, ...settings } = fieldsOf(content);
    for (const one of Object.keys(settings)) settings[one] = numberOf(settings[one]);
    const maxTokens = numberOf(max);
    const options = { ...settings, seed: /^-?\d{1,20}$/.test(seed) ? BigInt(seed) : seed, max_tokens: maxTokens === 0 ? 1 : maxTokens };
    const checked = writeOptions(options, SETTINGS);
    const model = { name, sha256: hashOf({ sha256 }) };
    return { prompt, seed: checked.seed, settings: checked.settings, maxTokens, model };
  } catch (error) {
    throw new Error(`This link is damaged or incomplete, so copy the whole link again: ${error.message}`, { cause: error });
  }
}

/** Returns the texts of the fields, each of which must be there once; decodes them strictly, unlike URLSearchParams. */
function fieldsOf(content) {
  const fields = {};
  for (const part of content.split("&")) {
    const [name, ...rest] = part.split("=");
    if (!FIELDS.includes(name)) throw new Error(`it has the unknown part ${JSON.stringify(name.slice(0, 40))}`);
    if (name in fields) throw new Error(`it has ${name} twice`);
    fields[name] = decoded(rest.join("=").replaceAll("+", " "), name);
  }
  const missing = FIELDS.find((name) => !(name in fields) && !OPTIONAL.includes(name));
  if (missing) throw new Error(`it has no ${missing}`);
  return fields;
}

function decoded(text, name) {
  try {
    return decodeURIComponent(text);
  } catch {
    throw new Error(`its ${name} is cut or changed`);
  }
}

/** Returns a number; what is none stays a text, which writeOptions refuses. */
function numberOf(text) {
  return NUMBER.test(text) ? Number(text) : text;
}

function hashOf({ sha256 }) {
  requireOption("sha256", `${HASH_DIGITS} hexadecimal digits or more`, /^[0-9a-f]{8,64}$/.test(sha256), sha256);
  return sha256.slice(0, HASH_DIGITS);
}

/**
 * Returns a sentence for the reader of a link if it was made with another model than the one that is open, or if this
 * one has learned something; null if it is the same.
 * @param {{name: string, sha256: string}} linked `model` of the link
 * @param {{name: string, sha256: string, hasLearned: boolean}} open the name and `config.model_sha256` of the open file
 * @returns {string | null}
 */
export function otherModel(linked, open) {
  const isSame = hashOf(linked) === hashOf(open);
  if (isSame) return open.hasLearned ? LEARNED : null;
  const made = linked.name === open.name ? `another version of ${linked.name}` : linked.name;
  return `This link was made with ${made}; ${open.name} is open. The text will be another one: open the same file for the same text.`;
}

/**
 * Whether a link to this address works on this device only, because its host is the device itself.
 * @param {string} address
 * @returns {boolean}
 */
export function isLocal(address) {
  return IS_LOCAL.test(new URL(address).hostname);
}
