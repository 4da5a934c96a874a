// Text to token ids and back, by the same rules as keras_seq/data/tokens.py.

const SPACE = "\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const APOSTROPHE = "'\\u2019";
const PUNCTUATION =
  "!-\\/:-@\\[-`\\{-~\\xa1-\\xa9\\xab\\xac\\xae-\\xb1\\xb4\\xb6-\\xb8\\xbb\\xbf\\xd7\\xf7" + // ASCII and Latin-1
  "\\u037e\\u0387\\u055a-\\u055f\\u0589\\u058a\\u05be\\u05c0\\u05c3\\u05c6\\u05f3\\u05f4" + // Greek, Armenian, Hebrew
  "\\u060c\\u061b\\u061e\\u061f\\u066a-\\u066d\\u06d4\\u0964\\u0965\\u0970\\u1361-\\u1368" + // Arabic, Devanagari, Ethiopic
  "\\u2010-\\u2027\\u2030-\\u205e\\u20a0-\\u20cf\\u2100-\\u214f\\u2190-\\u2bff\\u2e00-\\u2e7f" + // general, symbols
  "\\u3001-\\u3004\\u3008-\\u3020\\u3030\\ufe10-\\ufe1f\\ufe30-\\ufe6f" + // CJK
  "\\uff01-\\uff0f\\uff1a-\\uff20\\uff3b-\\uff40\\uff5b-\\uff65\\uffe0-\\uffee\\u{1f000}-\\u{1faff}"; // full width, pictures
const SINGLE = // scripts without spaces between words: every character is a token
  "\\u0e01-\\u0eff\\u1000-\\u109f\\u1780-\\u17ff" + // Thai, Lao, Burmese, Khmer
  "\\u2e80-\\u2fff\\u3005-\\u3007\\u3021-\\u302f\\u3031-\\u312f\\u3190-\\u4dbf\\u4e00-\\u9fff\\uf900-\\ufaff\\uff66-\\uff9f" +
  "\\u{1aff0}-\\u{1b16f}\\u{20000}-\\u{3ffff}";
const WORD = `[^${SPACE}${PUNCTUATION}${SINGLE}]+`;
const TOKEN = new RegExp(` ?${WORD}(?:[${APOSTROPHE}]${WORD})*| ?[${PUNCTUATION}]| ?[${SINGLE}]|[${SPACE}]`, "gu");

/** Splits a text into word tokens, whose concatenation is the text. */
export function splitWords(text) {
  return text.match(TOKEN) ?? [];
}

/** Returns the code point of an invisible character, such as U+0009. */
export function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

function unescape(line) {
  if (/\\(?!n|r|x5c)/.test(line)) throw new Error(`the vocabulary inside the file is damaged: ${line.slice(0, 40)}`);
  return line.replaceAll("\\n", "\n").replaceAll("\\r", "\r").replaceAll("\\x5c", "\\");
}

const WHITE_SPACE = "\\t-\\r\\x20";
const BETWEEN_WHITE_SPACE = new RegExp(`[^${WHITE_SPACE}]+`, "gu");
const ENDS_WITH_WHITE_SPACE = new RegExp(`(^|[${WHITE_SPACE}])$`, "u"); // an empty text too
const SPLIT = {
  char: (text) => [...text],
  word: splitWords,
  whitespace: (text) => text.match(BETWEEN_WHITE_SPACE) ?? [],
};

function levelOf(tokens, isReserved) {
  const beginWith = (...names) => names.every((name, id) => tokens[id] === name);
  if (beginWith("<pad>", "<unk>", "<s>", "<eos>")) return "word";
  const areCharacters = tokens.every((token, id) => isReserved(id) || [...token].length === 1);
  return beginWith("<pad>", "<s>", "<eos>") || areCharacters ? "char" : "whitespace";
}

/** The tokens of a model, some of them reserved. */
export class Vocabulary {
  /** @param {string} file the content of vocab.txt */
  constructor(file) {
    this.tokens = file.split("\n").map(unescape);
    if (this.tokens.pop() !== "" || this.tokens.length < 4) {
      throw new Error("the vocabulary inside the file is damaged: it is truncated");
    }
    const unknown = this.tokens.includes("[UNK]") ? "[UNK]" : "<unk>";
    const ids = ["<pad>", "<s>", "<eos>", unknown].map((token) => this.tokens.indexOf(token));
    [, this.startId, this.eosId, this.unknownId] = ids; // -1: there is none
    if (this.startId < 0 || this.eosId < 0) throw new Error("the vocabulary inside the file is damaged: it has no <s> or <eos>");
    this.reserved = new Set(ids.filter((id) => id >= 0));
    this.level = levelOf(this.tokens, (id) => this.reserved.has(id));
    this.ids = new Map(this.tokens.map((token, id) => [token, id]).filter(([, id]) => id === this.unknownId || !this.reserved.has(id)));
    this.silent = new Set([...this.reserved].filter((id) => id !== this.unknownId).map((id) => this.tokens[id]));
  }

  /** Returns the ids of a text. Where there is no unknown token, what is not in the vocabulary is an error. */
  encode(text) {
    if (!text.isWellFormed()) throw new Error("The text has half of a character (a lone surrogate).");
    const tokens = SPLIT[this.level](text);
    // Split at white space, a text can have a word that is spelled like a reserved token. It is not that token.
    const isForeign = (token) => !this.ids.has(token) && (this.unknownId < 0 || (this.level === "whitespace" && this.silent.has(token)));
    const foreign = [...new Set(tokens)].filter(isForeign);
    if (foreign.length) {
      const named = foreign.slice(0, 10).map((it) => (/[\p{L}\p{N}\p{P}\p{S}]/u.test(it) ? it : codePoint(it))).join(" ");
      const kind = this.level === "char" ? "character" : "word";
      throw new Error(`The model does not know the ${kind}${foreign.length > 1 ? "s" : ""} ${named}`);
    }
    return tokens.map((token) => this.ids.get(token) ?? this.unknownId);
  }

  /** Returns the text that a token adds to a text; reserved tokens except the unknown one add none. */
  piece(id, before) {
    const token = this.tokens[id];
    if (this.silent.has(token)) return "";
    return this.level === "whitespace" && !ENDS_WITH_WHITE_SPACE.test(before) ? ` ${token}` : token;
  }
}
