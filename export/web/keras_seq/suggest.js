// The likeliest next words of a text, or completions of its last one. Pure: the model is given.

import { isForbidden, largest, requireNumbers, scaleOf } from "./likeliest.js";
import { afterWhiteSpace, beginsWord, begunWord, isSpaced, wordBefore } from "./tokens.js";
import { searchWords } from "./word_search.js";

const FEWEST_MIXED = 8; // at least so many suggestions of the model are mixed with own words

/**
 * Returns up to `count` suggestions, `{text, insert, probability}`, the likeliest first.
 *
 * @param {Vocabulary} vocabulary
 * @param {string} text the text up to the caret
 * @param {number} count from 1 to 100
 * @param {{read, step}} model `await read(ids)` returns the logits after `<s>` and some tokens, and the states; `await step(id,
 *   states)` those after one token more. The states stay valid until the end.
 * @param {OwnWords} [own] the words that the user has written, which become more likely, and are suggested even if the model
 *   does not know them
 */
export async function suggestions(vocabulary, text, count, model, own) {
  const begun = begunWord(text);
  // Where texts are split at white space, what was begun may have a punctuation mark, which no own word has.
  const isMixed = own && !own.isEmpty && (vocabulary.level !== "whitespace" || afterWhiteSpace(text) === begun);
  const found = new Found(isMixed ? Math.max(count, FEWEST_MIXED) : count);
  await (vocabulary.level === "char" ? searchWords : lookUpWords)(vocabulary, text, model, found);
  return isMixed ? mixed(found.list(), own, vocabulary, text, begun).slice(0, count) : found.list();
}

/**
 * Returns the model's suggestions and own words, the likeliest first; of equal ones the model's are first. After punctuation, and
 * after a character of a script without spaces, the model alone says which words follow, because it says whether a space does.
 */
function mixed(ofModel, own, vocabulary, text, begun) {
  const canRead = (word) => vocabulary.unknownId >= 0 || vocabulary.isKnown(word);
  const { model, added } = own.shares(begun, wordBefore(text, begun), canRead);
  const all = ofModel.map((one) => ({ ...one, probability: model * one.probability + (added.get(one.text) ?? 0) }));
  if (begun || isSpaced(text)) {
    const shown = new Set(all.map((one) => one.text));
    for (const [word, probability] of added) {
      if (!shown.has(word)) all.push({ text: word, insert: word.slice(begun.length), probability });
    }
  }
  return all.sort((one, other) => other.probability - one.probability); // keeps the order of equal ones
}

/** The suggestions so far. A word occurs once: with a space before it or without, the likelier one. */
class Found {
  #words = new Map();

  constructor(count) {
    this.count = count;
  }

  add(word, insert, probability) {
    const text = word.replace(/^ /, "");
    if (!this.#words.has(text)) this.#words.set(text, { text, insert, probability });
  }

  get isComplete() {
    return this.#words.size === this.count;
  }

  list() {
    return [...this.#words.values()];
  }
}

/** Returns the part of a text that a suggestion completes: its last word with the space before it, or this space alone. */
function begunToken(level, text) {
  if (level === "whitespace") return afterWhiteSpace(text);
  const word = begunWord(text);
  const hasSpace = text[text.length - word.length - 1] === " ";
  return hasSpace ? ` ${word}` : word;
}

/** Looks words up among the next tokens. */
async function lookUpWords(vocabulary, text, model, found) {
  const begun = begunToken(vocabulary.level, text);
  const { logits } = await model.read(vocabulary.encode(text.slice(0, text.length - begun.length)));
  const { tokens, eosId, reserved } = vocabulary;
  const isMatch = (id) => !isForbidden(vocabulary, id) && (id === eosId ? begun === "" : tokens[id].startsWith(begun));
  const matches = [...tokens.keys()].filter(isMatch);
  if (!matches.length) return;
  const isWord = (token) => vocabulary.level === "whitespace" || beginsWord(token);
  const candidates = matches.filter((id) => !reserved.has(id) && tokens[id].length > begun.length && isWord(tokens[id]));
  requireNumbers(logits, "no word can be suggested");
  const [highest, total] = scaleOf(logits, matches);
  for (const id of largest(logits, candidates, 2 * found.count)) {
    // At most two tokens are one word, with a space before it and without.
    const probability = Math.exp(logits[id] - highest) / total;
    if (probability > 0) found.add(tokens[id], tokens[id].slice(begun.length), probability);
    if (found.isComplete) break;
  }
}
