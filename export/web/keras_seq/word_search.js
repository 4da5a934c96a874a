// The likeliest words of a model of characters: a best-first search from character to character.

import { isForbidden, largest, requireNumbers, scaleOf } from "./likeliest.js";
import { begunWord, classOf, isApostrophe, isSpaced } from "./tokens.js";

const MOST_STEPS = 64; // calls of the model
const MOST_CHILDREN = 32;
const LONGEST = 32; // characters of an insert

/** What may follow in each place of a word, by kind: the next place; "complete" is one. */
const FOLLOWING = {
  open: { " ": "spaced", word: "inside", single: "complete" },
  spaced: { word: "inside", single: "complete" },
  inside: { word: "inside", apostrophe: "joined" },
  joined: { word: "inside" },
};

function kindOf(token) {
  if (token === " ") return " "; // Other white space does not begin a word.
  return isApostrophe(token) ? "apostrophe" : classOf(token);
}

/** The ids of a vocabulary that a search asks for: all that are allowed, those that end a word, and what follows each place. */
class Kinds {
  static #known = new WeakMap(); // by vocabulary

  static of(vocabulary) {
    if (!this.#known.has(vocabulary)) this.#known.set(vocabulary, new Kinds(vocabulary));
    return this.#known.get(vocabulary);
  }

  constructor(vocabulary) {
    const { tokens, reserved } = vocabulary;
    this.kinds = tokens.map((token, id) => (reserved.has(id) ? "reserved" : kindOf(token)));
    this.allowed = [...tokens.keys()].filter((id) => !isForbidden(vocabulary, id));
    this.ends = this.allowed.filter((id) => this.kinds[id] !== "word" && this.kinds[id] !== "apostrophe");
    this.following = {};
    for (const place in FOLLOWING) this.following[place] = this.allowed.filter((id) => FOLLOWING[place][this.kinds[id]]);
  }
}

/** Returns whether a node is taken before another: the likeliest first, and the earlier one on a tie. */
function isBefore(one, other) {
  return one.logProbability > other.logProbability || (one.logProbability === other.logProbability && one.order < other.order);
}

/** The beginnings of words that are tried: a binary heap. */
class Queue {
  #nodes = [];
  #added = 0;

  add(node) {
    if (node.logProbability === -Infinity) return;
    node.order = this.#added++;
    const nodes = this.#nodes;
    let at = nodes.length;
    for (let above; at > 0 && isBefore(node, nodes[(above = (at - 1) >> 1)]); at = above) nodes[at] = nodes[above];
    nodes[at] = node;
  }

  /** Returns the first node; undefined if there is none. */
  pop() {
    const nodes = this.#nodes;
    const first = nodes[0];
    const last = nodes.pop();
    if (!nodes.length) return first;
    let at = 0;
    for (let below; (below = 2 * at + 1) < nodes.length; at = below) {
      if (below + 1 < nodes.length && isBefore(nodes[below + 1], nodes[below])) below += 1;
      if (!isBefore(nodes[below], last)) break;
      nodes[at] = nodes[below];
    }
    nodes[at] = last;
    return first;
  }
}

/** Adds words to `found` until it is complete. */
export async function searchWords(vocabulary, text, model, found) {
  const begun = begunWord(text);
  const begunPlace = isApostrophe(begun.at(-1)) ? "joined" : "inside";
  const place = begun ? begunPlace : isSpaced(text) ? "spaced" : "open";
  const queue = new Queue();
  addChildren(queue, { logProbability: 0, insert: "", size: 0, place }, await model.read(vocabulary.encode(text)), vocabulary);
  let steps = 0;
  for (let node; !found.isComplete && (node = queue.pop()); ) {
    if (node.place === "complete") {
      found.add(begun + node.insert, node.insert, Math.exp(node.logProbability));
    } else if (steps++ < MOST_STEPS) {
      addChildren(queue, node, await model.step(node.id, node.states), vocabulary);
    }
  }
}

/** Adds the words that a node begins: itself, if it may end, and those with one character more. */
function addChildren(queue, { logProbability, insert, size, place }, { logits, states }, vocabulary) {
  const { kinds, allowed, ends, following } = Kinds.of(vocabulary);
  requireNumbers(logits, "no word can be suggested");
  const [highest, total] = scaleOf(logits, allowed);
  const scale = highest + Math.log(total);
  if (place === "inside" && size > 0) {
    let share = 0;
    for (const id of ends) share += Math.exp(logits[id] - scale);
    queue.add({ logProbability: logProbability + Math.log(share), insert, place: "complete" });
  }
  if (size === LONGEST) return;
  for (const id of largest(logits, following[place], MOST_CHILDREN)) {
    queue.add({
      logProbability: logProbability + logits[id] - scale,
      insert: insert + vocabulary.tokens[id],
      size: size + 1,
      place: FOLLOWING[place][kinds[id]],
      id,
      states, // before this character
    });
  }
}
