// The likeliest next words of a text, or completions of its last one. Pure: the model is given.

import { classOf, endsWithWhiteSpace, isApostrophe, splitWhitespace, splitWords } from "./tokens.js";

const MOST_STEPS = 64; // calls of `decode`
const MOST_CHILDREN = 32;
const LONGEST = 32; // characters of an insert

/**
 * Returns up to `count` suggestions, `{text, insert, probability}`, the likeliest first.
 *
 * @param {Vocabulary} vocabulary
 * @param {string} text the text up to the caret
 * @param {number} count from 1 to 100
 * @param {{read, step}} model `await read(ids)` returns the logits after `<s>` and some tokens, and the states; `await step(id,
 *   states)` those after one token more. The states stay valid until the end.
 */
export function suggestions(vocabulary, text, count, model) {
  return vocabulary.level === "char" ? searchWords(vocabulary, text, count, model) : lookUpWords(vocabulary, text, count, model);
}

/** The tokens that are never suggested. */
function isForbidden({ padId, startId, unknownId }, id) {
  return id === padId || id === startId || id === unknownId;
}

function requireNumbers(logits) {
  const highest = logits.reduce((most, logit) => Math.max(most, logit), -Infinity); // NaN if there is one
  if (!Number.isFinite(highest)) throw new Error("no word can be suggested: the model's logits are not finite");
}

/** Returns the largest of some logits, and the sum of the exponentials of the differences from it. */
function scaleOf(logits, ids) {
  const highest = ids.reduce((most, id) => Math.max(most, logits[id]), -Infinity);
  return [highest, ids.reduce((sum, id) => sum + Math.exp(logits[id] - highest), 0)];
}

/** The suggestions so far. A word occurs once: with a space before it or without, the likelier one. */
class Found {
  #words = new Map();

  add(word, insert, probability) {
    const text = word.replace(/^ /, "");
    if (!this.#words.has(text)) this.#words.set(text, { text, insert, probability });
  }

  get size() {
    return this.#words.size;
  }

  list() {
    return [...this.#words.values()];
  }
}

/** Returns the ids with the largest logits, the lower id first on a tie. */
function largest(logits, ids, count) {
  return [...ids].sort((one, other) => logits[other] - logits[one] || one - other).slice(0, count);
}

// ---- words: one look-up ----

function firstClass(token) {
  const word = token.startsWith(" ") ? token.slice(1) : token;
  return word === "" ? "space" : classOf(word);
}

/** Returns the part of a text that a suggestion completes: its last word, or the space before the next one. */
function begunToken(level, text) {
  if (level === "whitespace") return endsWithWhiteSpace(text) ? "" : splitWhitespace(text).at(-1);
  const tokens = splitWords(text);
  const [before = "", last = ""] = [tokens.at(-2), tokens.at(-1)];
  if (last !== "" && firstClass(last) === "word") return last;
  if (isApostrophe(last) && before !== "" && firstClass(before) === "word") return before + last;
  return last === " " ? last : "";
}

async function lookUpWords(vocabulary, text, count, model) {
  const begun = begunToken(vocabulary.level, text);
  const { logits } = await model.read(vocabulary.encode(text.slice(0, text.length - begun.length)));
  const { tokens, eosId, reserved } = vocabulary;
  const isMatch = (id) => !isForbidden(vocabulary, id) && (id === eosId ? begun === "" : tokens[id].startsWith(begun));
  const matches = [...tokens.keys()].filter(isMatch);
  if (!matches.length) return [];
  const isWord = (token) => vocabulary.level === "whitespace" || ["word", "single"].includes(firstClass(token));
  const candidates = matches.filter((id) => !reserved.has(id) && tokens[id].length > begun.length && isWord(tokens[id]));
  requireNumbers(logits);
  const [highest, total] = scaleOf(logits, matches);
  const found = new Found();
  for (const id of largest(logits, candidates, candidates.length)) {
    found.add(tokens[id], tokens[id].slice(begun.length), Math.exp(logits[id] - highest) / total);
    if (found.size === count) break;
  }
  return found.list();
}

// ---- characters: a search for the ends of words ----

/** What may follow in each state of a word, by class: the next state; "complete" is one. An apostrophe is a class here. */
const FOLLOWING = {
  open: { " ": "spaced", word: "inside", single: "complete" },
  spaced: { word: "inside", single: "complete" },
  inside: { word: "inside", apostrophe: "joined" },
  joined: { word: "inside" },
};

function kindOf(token) {
  if (token === " ") return " ";
  return isApostrophe(token) ? "apostrophe" : classOf(token);
}

/** Returns the word at the end of a text, perhaps with an apostrophe after it: WORD+ (apostrophe WORD+)* apostrophe? */
function begunWord(text) {
  const characters = [...text];
  let start = characters.length;
  const isWord = (index) => index >= 0 && classOf(characters[index]) === "word";
  const isJoint = (index) => index >= 0 && isApostrophe(characters[index]) && isWord(index - 1);
  while (isWord(start - 1) || isJoint(start - 1)) start -= 1;
  return characters.slice(start).join("");
}

function stateAfter(text, begun) {
  if (begun !== "") return isApostrophe(begun.at(-1)) ? "joined" : "inside";
  return text === "" || classOf([...text.slice(-2)].at(-1)) === "space" ? "spaced" : "open";
}

/** The words that are tried, the likeliest first, and the earlier one on a tie. */
class Queue {
  #nodes = [];

  add(node) {
    if (node.logProbability > -Infinity) this.#nodes.push(node);
  }

  pop() {
    const best = this.#nodes.reduce((best, { logProbability }, index, all) => (logProbability > all[best].logProbability ? index : best), 0);
    return this.#nodes.splice(best, 1)[0];
  }
}

async function searchWords(vocabulary, text, count, model) {
  const begun = begunWord(text);
  const kinds = vocabulary.tokens.map((token, id) => (vocabulary.reserved.has(id) ? "reserved" : kindOf(token)));
  const queue = new Queue();
  queue.add({ logProbability: 0, insert: "", size: 0, state: stateAfter(text, begun) });
  const found = new Found();
  let steps = 0;
  for (let node; found.size < count && (node = queue.pop()); ) {
    if (node.state === "complete") {
      found.add(begun + node.insert, node.insert, Math.exp(node.logProbability));
    } else if (!node.parent || steps++ < MOST_STEPS) {
      const read = node.parent ? await model.step(node.id, node.parent) : await model.read(vocabulary.encode(text));
      for (const child of childrenOf(node, read, vocabulary, kinds)) queue.add(child);
    }
  }
  return found.list();
}

/** Returns the words that a node begins: itself, if it may end, and those with one character more. */
function childrenOf({ logProbability, insert, size, state }, { logits, states }, vocabulary, kinds) {
  const allowed = [...vocabulary.tokens.keys()].filter((id) => !isForbidden(vocabulary, id));
  requireNumbers(logits);
  const [highest, total] = scaleOf(logits, allowed);
  const scale = highest + Math.log(total);
  const children = [];
  if (state === "inside" && size > 0) {
    const ends = allowed.filter((id) => kinds[id] !== "word" && kinds[id] !== "apostrophe");
    const share = ends.reduce((sum, id) => sum + Math.exp(logits[id] - scale), 0);
    children.push({ logProbability: logProbability + Math.log(share), insert, state: "complete" });
  }
  if (size === LONGEST) return children;
  const following = allowed.filter((id) => FOLLOWING[state][kinds[id]]);
  for (const id of largest(logits, following, MOST_CHILDREN)) {
    children.push({
      logProbability: logProbability + logits[id] - scale,
      insert: insert + vocabulary.tokens[id],
      size: size + 1,
      state: FOLLOWING[state][kinds[id]],
      id,
      parent: states,
    });
  }
  return children;
}
