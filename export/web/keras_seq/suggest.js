// The likeliest next words of a text, or completions of its last one. Pure: the model is given.

import { isForbidden, largest, requireNumbers, scaleOf } from "./likeliest.js";
import { afterWhiteSpace, begunWord, classOf } from "./tokens.js";
import { searchWords } from "./word_search.js";

/**
 * Returns up to `count` suggestions, `{text, insert, probability}`, the likeliest first.
 *
 * @param {Vocabulary} vocabulary
 * @param {string} text the text up to the caret
 * @param {number} count from 1 to 100
 * @param {{read, step}} model `await read(ids)` returns the logits after `<s>` and some tokens, and the states; `await step(id,
 *   states)` those after one token more. The states stay valid until the end.
 */
export async function suggestions(vocabulary, text, count, model) {
  const found = new Found(count);
  await (vocabulary.level === "char" ? searchWords : lookUpWords)(vocabulary, text, model, found);
  return found.list();
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

function firstClass(token) {
  const word = token.startsWith(" ") ? token.slice(1) : token;
  return word === "" ? "space" : classOf(word);
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
  const isWord = (token) => vocabulary.level === "whitespace" || ["word", "single"].includes(firstClass(token));
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
