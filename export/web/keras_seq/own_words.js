// The words that the user of a keyboard writes, by the same rules as keras_seq/generation/own_words.py. Pure.

import { beginsWord, splitWords } from "./tokens.js";

const MOST_WORDS = 2048;
const MOST_PAIRS = 8192;
const LONGEST_WORD = 64; // characters
const LARGEST_COUNT = 2 ** 31 - 1; // A count stays there.

const WORD_SHARE = 0.3; // of the probabilities, at most, for the words
const WORD_DOUBT = 30; // so many words make half of WORD_SHARE where nothing is begun
const PAIR_SHARE = 0.4; // and at most for the pairs
const PAIR_DOUBT = 3; // so many pairs make half of PAIR_SHARE

const SHOWN = 80; // characters of what is wrong
const COUNT = /^[1-9][0-9]{0,9}$/;
const INDEX = /^(?:0|[1-9][0-9]{0,3})$/;

/**
 * Counts words and pairs of words in the order of their first use. Before there are too many, all counts are halved.
 *
 * Two words are a pair if nothing is between them, or one space.
 */
export class OwnWords {
  #words = new Map();
  #pairs = new Map(); // by both words with a space between them, which no word has

  /** Reads what `toText` returned. */
  static fromText(text) {
    const own = new OwnWords();
    const lines = text.split("\n");
    const rest = lines.pop();
    if (rest !== "") throw malformed(lines.length + 1, "the last line must end in a line feed", rest.slice(-40));
    const middle = lines.indexOf("");
    if (middle < 0) throw malformed(lines.length + 1, "an empty line must follow the words", "the end of the text");
    for (let at = 0; at < middle; at++) own.#readWord(at + 1, lines[at]);
    const known = [...own.#words.keys()];
    for (let at = middle + 1; at < lines.length; at++) own.#readPair(at + 1, lines[at], known);
    return own;
  }

  /**
   * Returns the counts as text: a line `COUNT WORD` for each word, an empty line, and a line `COUNT I J` for each pair,
   * word I before word J.
   */
  toText() {
    const indices = new Map([...this.#words.keys()].map((word, index) => [word, index]));
    const words = [...this.#words].map(([word, count]) => `${count} ${word}\n`);
    const pairs = [...this.#pairs].map(([pair, count]) => {
      const [one, two] = pair.split(" ");
      return `${count} ${indices.get(one)} ${indices.get(two)}\n`;
    });
    return [...words, "\n", ...pairs].join("");
  }

  get isEmpty() {
    return this.#words.size === 0;
  }

  /** Counts the words of a text, which begins and ends at the ends of words, and their pairs. */
  learn(text) {
    let before = null;
    for (const token of splitWords(text)) {
      const word = token.replace(/^ /, "");
      if (!beginsWord(token) || isTooLong(word)) {
        before = null;
        continue;
      }
      this.#addWord(word);
      if (this.#words.has(before)) this.#addPair(`${before} ${word}`); // It may have been dropped.
      before = word;
    }
  }

  /**
   * Returns how to mix the probabilities of the words that complete what was begun: what to multiply those of the model
   * with, and what is `added`, a map of the words that fit in their order.
   *
   * @param {string} begun what was typed of the word, without a space before it; may be empty
   * @param {string} before the word before it, or nothing
   * @param {(word: string) => boolean} canRead whether the model can read a word
   */
  shares(begun, before, canRead) {
    const fitting = [];
    let [n, m] = [0, 0];
    for (const [word, count] of this.#words) {
      if (!word.startsWith(begun) || word.length === begun.length || !canRead(word)) continue;
      const pair = before ? (this.#pairs.get(`${before} ${word}`) ?? 0) : 0;
      fitting.push([word, count, pair]);
      n += count;
      m += pair;
    }
    if (!fitting.length) return { model: 1, added: new Map() };
    const u = (WORD_SHARE * n) / (n + (begun ? 0 : WORD_DOUBT));
    const v = (PAIR_SHARE * m) / (m + PAIR_DOUBT);
    const shareOf = (count, pair) => (u * count) / n + (pair ? (v * pair) / m : 0);
    return { model: 1 - u - v, added: new Map(fitting.map(([word, ...counts]) => [word, shareOf(...counts)])) };
  }

  #addWord(word) {
    while (!this.#words.has(word) && this.#words.size >= MOST_WORDS) {
      this.#words = halved(this.#words);
      this.#halvePairs();
    }
    this.#words.set(word, Math.min((this.#words.get(word) ?? 0) + 1, LARGEST_COUNT));
  }

  #addPair(pair) {
    while (!this.#pairs.has(pair) && this.#pairs.size >= MOST_PAIRS) this.#halvePairs();
    this.#pairs.set(pair, Math.min((this.#pairs.get(pair) ?? 0) + 1, LARGEST_COUNT));
  }

  #halvePairs() {
    const isKnown = ([pair]) => pair.split(" ").every((word) => this.#words.has(word));
    this.#pairs = new Map([...halved(this.#pairs)].filter(isKnown));
  }

  #readWord(number, line) {
    const [count, ...parts] = line.split(" ");
    const word = parts.join(" ");
    if (this.#words.size >= MOST_WORDS) throw malformed(number, `there must be at most ${MOST_WORDS} words`, line);
    const counted = readCount(number, count);
    const isWord = word[0] !== " " && splitWords(word)[0] === word && beginsWord(word) && !isTooLong(word);
    if (!isWord) throw malformed(number, `a word of at most ${LONGEST_WORD} characters must follow the count`, word);
    if (this.#words.has(word)) throw malformed(number, "a word must not occur twice", word);
    this.#words.set(word, counted);
  }

  #readPair(number, line, known) {
    const [count, ...indices] = line.split(" ");
    if (this.#pairs.size >= MOST_PAIRS) throw malformed(number, `there must be at most ${MOST_PAIRS} pairs`, line);
    const counted = readCount(number, count);
    const isIndex = (index) => INDEX.test(index) && Number(index) < known.length;
    if (indices.length !== 2 || !indices.every(isIndex)) {
      const expected = `two indices of words, below ${known.length}, must follow the count of a pair`;
      throw malformed(number, expected, indices.join(" "));
    }
    const pair = indices.map((index) => known[index]).join(" ");
    if (this.#pairs.has(pair)) throw malformed(number, "a pair must not occur twice", indices.join(" "));
    this.#pairs.set(pair, counted);
  }
}

function isTooLong(word) {
  return word.length > LONGEST_WORD && [...word].length > LONGEST_WORD;
}

/** Returns half of each count, rounded down, without those that are 0. */
function halved(counts) {
  return new Map([...counts].filter(([, count]) => count > 1).map(([key, count]) => [key, Math.floor(count / 2)]));
}

function readCount(number, count) {
  if (!COUNT.test(count) || Number(count) > LARGEST_COUNT) {
    throw malformed(number, `a count must be 1 to ${LARGEST_COUNT}`, count);
  }
  return Number(count);
}

function malformed(number, expected, received) {
  return new Error(`own words, line ${number}: ${expected}. Received: ${JSON.stringify(received.slice(0, SHOWN))}`);
}
