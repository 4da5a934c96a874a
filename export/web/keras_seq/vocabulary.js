// Text to token ids and back, by the same rules as keras_seq/data/vocabulary.py.

import { codePoint, endsWithWhiteSpace, hasWhiteSpace, isWordToken, splitWhitespace, splitWords } from "./tokens.js";

const SPLIT = { char: (text) => [...text], word: splitWords, whitespace: splitWhitespace };
const FIRST = { char: ["<pad>", "<s>", "<eos>"], word: ["<pad>", "<unk>", "<s>", "<eos>"] }; // of vocabularies made from a text

function damaged(reason) {
  return new Error(`the vocabulary inside the file is damaged: ${reason}`);
}

/** Returns the tokens of vocab.txt: one a line, with escapes. */
function tokensOf(file) {
  if (!file.endsWith("\n")) throw damaged("it is truncated");
  const lines = file.slice(0, -1).split("\n");
  return lines.map((line, index) => {
    if (/\r|\\(?!n|r|x5c)/.test(line)) throw damaged(`line ${index + 1} is ${line.slice(0, 40)}`);
    return line.includes("\\") ? line.replaceAll("\\n", "\n").replaceAll("\\r", "\r").replaceAll("\\x5c", "\\") : line;
  });
}

function beginsWith(tokens, first) {
  return first.every((name, id) => tokens[id] === name);
}

function isCharacter(token) {
  return token.length === 1 || (token.length === 2 && token.codePointAt(0) > 0xffff);
}

function levelOf(tokens, reserved) {
  if (beginsWith(tokens, FIRST.word)) return "word";
  const areCharacters = beginsWith(tokens, FIRST.char) || tokens.every((token, id) => reserved.has(id) || isCharacter(token));
  return areCharacters ? "char" : "whitespace";
}

const IS_TOKEN = {
  char: isCharacter,
  word: isWordToken,
  whitespace: (token) => token !== "" && !hasWhiteSpace(token),
};

/** Requires that each token of a text can be one of these tokens, and only one. */
function requireValid(tokens, reserved, level) {
  const seen = new Set();
  tokens.forEach((token, id) => {
    const isValid = !seen.has(token) && (reserved.has(id) || IS_TOKEN[level](token));
    const hasByteOrderMark = id === 0 && token.length > 1 && token[0] === "\ufeff";
    if (!isValid || hasByteOrderMark) throw damaged(`line ${id + 1} cannot be a token: ${token.slice(0, 40)}`);
    seen.add(token);
  });
  const isMade = beginsWith(tokens, FIRST.char) || beginsWith(tokens, FIRST.word);
  if (reserved.size === tokens.length && !isMade) throw damaged("it has only reserved tokens");
}

/** Returns a pattern that finds all characters other than these. */
function otherThan(characters) {
  const escaped = [...characters].filter(isCharacter).map((one) => `\\u{${one.codePointAt(0).toString(16)}}`);
  return new RegExp(`[^${escaped.join("")}]`, "gu");
}

function rangeOf(text, start) {
  return { start, end: start + text.length, text };
}

/** The tokens of a model, some of them reserved. */
export class Vocabulary {
  #foreign; // finds the characters that are not in the vocabulary

  /** @param {string} file the content of vocab.txt */
  constructor(file) {
    this.file = file;
    this.tokens = tokensOf(file);
    const unknown = this.tokens.includes("[UNK]") ? "[UNK]" : "<unk>";
    const ids = ["<pad>", "<s>", "<eos>", unknown].map((token) => this.tokens.indexOf(token));
    [this.padId, this.startId, this.eosId, this.unknownId] = ids; // -1: there is none
    this.reserved = new Set(ids.filter((id) => id >= 0));
    this.level = levelOf(this.tokens, this.reserved);
    requireValid(this.tokens, this.reserved, this.level);
    if (Math.min(this.padId, this.startId, this.eosId) < 0) throw damaged("it lacks <pad>, <s> or <eos>");
    const isRead = (id) => id === this.unknownId || !this.reserved.has(id);
    this.ids = new Map(this.tokens.map((token, id) => [token, id]).filter(([, id]) => isRead(id)));
    if (this.level === "char") this.#foreign = otherThan(this.ids.keys());
    this.silent = new Set([...this.reserved].filter((id) => id !== this.unknownId).map((id) => this.tokens[id]));
  }

  /**
   * Returns where a text has what the model does not know, as `{start, end, text}`: characters that it cannot read, or words that
   * it reads as the unknown token or cannot read.
   */
  unknown(text) {
    if (typeof text !== "string") throw new TypeError(`The text must be a string, not ${typeof text}.`);
    if (this.level === "char") return [...text.matchAll(this.#foreign)].map(({ 0: one, index }) => rangeOf(one, index));
    const found = [];
    let start = 0;
    for (const token of SPLIT[this.level](text)) {
      if (this.level === "whitespace") start = text.indexOf(token, start);
      const end = start + token.length;
      const id = this.ids.get(token);
      if (id === undefined || id === this.unknownId) {
        const word = this.level === "word" && token.length > 1 ? token.replace(/^ /, "") : token;
        found.push(rangeOf(word, end - word.length));
      }
      start = end;
    }
    return found;
  }

  /** Whether all tokens of a text are in the vocabulary. */
  isKnown(text) {
    if (this.level === "char") return text.search(this.#foreign) < 0;
    return SPLIT[this.level](text).every((token) => this.ids.has(token));
  }

  /** Requires that the model can read a text: where there is no unknown token, what is not in the vocabulary is an error. */
  requireReadable(text) {
    if (typeof text !== "string") throw new TypeError(`The text must be a string, not ${typeof text}.`);
    if (!text.isWellFormed()) throw new Error("The text has half of a character (a lone surrogate).");
    if (this.unknownId >= 0 && this.level !== "whitespace") return;
    // Split at white space, a text can have a word that is spelled like a reserved token. It is not that token.
    const isForeign = (token) => !this.ids.has(token) && (this.unknownId < 0 || this.silent.has(token));
    const foreign = [...new Set(this.unknown(text).map((one) => one.text))].filter(isForeign);
    if (!foreign.length) return;
    const named = foreign.slice(0, 10).map((it) => (/[\p{L}\p{N}\p{P}\p{S}]/u.test(it) ? it : codePoint(it))).join(" ");
    const kind = this.level === "char" ? "character" : "word";
    throw new Error(`The model does not know the ${kind}${foreign.length > 1 ? "s" : ""} ${named}`);
  }

  /** Returns the ids of a text, which the model must be able to read. */
  encode(text) {
    this.requireReadable(text);
    return SPLIT[this.level](text).map((token) => this.ids.get(token) ?? this.unknownId);
  }

  /** Returns the text of token ids, after a text `before`. */
  decode(ids, before = "") {
    const pieces = [];
    let last = before;
    for (const id of ids) {
      if (this.tokens[id] === undefined) {
        throw new RangeError(`A token id must be from 0 to ${this.tokens.length - 1}. Received: ${id}`);
      }
      const piece = this.piece(id, last);
      pieces.push(piece);
      last = piece || last;
    }
    return pieces.join("");
  }

  /** Returns the text that a token adds to a text; reserved tokens except the unknown one add none. */
  piece(id, before) {
    const token = this.tokens[id];
    if (this.silent.has(token)) return "";
    return this.level === "whitespace" && !endsWithWhiteSpace(before) ? ` ${token}` : token;
  }
}
