// The tokens of a text, by the same rules as keras_seq/data/tokens.py.

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
const TOKEN = ` ?${WORD}(?:[${APOSTROPHE}]${WORD})*| ?[${PUNCTUATION}]| ?[${SINGLE}]|[${SPACE}]`;
const TOKENS = new RegExp(TOKEN, "gu");
const ONE_TOKEN = new RegExp(`^(?:${TOKEN})$`, "u");
const IS_SPACE = new RegExp(`^[${SPACE}]`, "u");
const IS_PUNCTUATION = new RegExp(`^[${PUNCTUATION}]`, "u");
const IS_SINGLE = new RegExp(`^[${SINGLE}]`, "u");

/** Splits a text into word tokens, whose concatenation is the text. */
export function splitWords(text) {
  return text.match(TOKENS) ?? [];
}

export function isWordToken(text) {
  return ONE_TOKEN.test(text);
}

/** Returns the class of the first character of a text, which is not empty: "space", "punctuation", "single" or "word". */
export function classOf(text) {
  if (IS_SPACE.test(text)) return "space";
  if (IS_PUNCTUATION.test(text)) return "punctuation"; // apostrophes too
  return IS_SINGLE.test(text) ? "single" : "word";
}

/** Whether a word token is a word or a character of a script without spaces, with a space before it or not. */
export function beginsWord(token) {
  return ["word", "single"].includes(classOf(token.length > 1 ? token.replace(/^ /, "") : token));
}

export function isApostrophe(character) {
  return character === "'" || character === "\u2019";
}

/** Returns the character that ends at an index of a text; "" at its start. */
export function characterBefore(text, end) {
  return [...text.slice(Math.max(0, end - 2), end)].at(-1) ?? "";
}

/**
 * Returns the word that has been begun at the end of a text, perhaps with an apostrophe after it: WORD+ (apostrophe WORD+)*
 * apostrophe?
 */
export function begunWord(text) {
  const isWord = (character) => character !== "" && classOf(character) === "word";
  let start = text.length;
  for (let last; (last = characterBefore(text, start)) !== ""; start -= last.length) {
    if (!isWord(last) && !(isApostrophe(last) && isWord(characterBefore(text, start - 1)))) break;
  }
  return text.slice(start);
}

/** Returns the word right before the one that has been begun, with nothing or one space between them; "" if there is none. */
export function wordBefore(text, begun) {
  const before = text.slice(0, text.length - begun.length).replace(/ $/, "");
  const last = characterBefore(before, before.length);
  const kind = last && classOf(last);
  if (kind === "single") return last;
  return kind === "word" ? begunWord(before) : "";
}

/** Whether a text is empty or ends in a SPACE character. */
export function isSpaced(text) {
  return text === "" || IS_SPACE.test(characterBefore(text, text.length));
}

const WHITE_SPACE = "\\t-\\r\\x20";
const BETWEEN_WHITE_SPACE = new RegExp(`[^${WHITE_SPACE}]+`, "gu");
const HAS_WHITE_SPACE = new RegExp(`[${WHITE_SPACE}]`, "u");
const ENDS_WITH_WHITE_SPACE = new RegExp(`(^|[${WHITE_SPACE}])$`, "u");

/** Splits a text at white space into words, without the white space. */
export function splitWhitespace(text) {
  return text.match(BETWEEN_WHITE_SPACE) ?? [];
}

/** Splits a text into lines, without their ends: \n or \r\n. */
export function splitLines(text) {
  return text.split("\n").map((line) => line.replace(/\r$/, ""));
}

export function hasWhiteSpace(text) {
  return HAS_WHITE_SPACE.test(text);
}

/** Returns what follows the last white space of a text. */
export function afterWhiteSpace(text) {
  let start = text.length;
  while (start > 0 && !hasWhiteSpace(text[start - 1])) start -= 1;
  return text.slice(start);
}

/** Whether a text is empty or ends in white space, so that a word can follow without a space. */
export function endsWithWhiteSpace(text) {
  return ENDS_WITH_WHITE_SPACE.test(text.slice(-1));
}

/** Returns the name of a character, such as U+0009. */
export function codePoint(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}
