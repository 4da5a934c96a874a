// What the model reads of a text: all that it knows, up to the caret.

import { characterBefore, classOf, codePoint } from "../keras_seq/tokens.js";

const HALF = /\p{Surrogate}/gu; // half of a character, which no model can read

/**
 * Returns what the model does not know in a text, `{start, end, text, isSkipped}`. A word that is being typed, at the caret, is not
 * finished and not reported. A model of lines reads no line feeds.
 */
export function unknownIn(model, given, caret = -1) {
  const { vocabulary, config } = model;
  const text = withKnownApostrophes(vocabulary, given);
  const isUnfinished = ({ end, isSkipped }) => vocabulary.level !== "char" && end === caret && !isSkipped;
  const isBreak = (one) => config.by_line === true && one.text === "\n";
  const isSkipped = (one) => skipsUnknown(model) || !one.text.isWellFormed();
  const all = unknownByLines(vocabulary, text).map((one) => ({ ...one, text: given.slice(one.start, one.end), isSkipped: isSkipped(one) }));
  return all.filter((one) => !isBreak(one) && !isUnfinished(one));
}

const straightOnly = new WeakMap(); // of each vocabulary: whether it has ' and lacks ’

/** Returns a text in which ’, which phones type, is ' if the vocabulary has only that. */
function withKnownApostrophes(vocabulary, text) {
  const has = (apostrophe) => vocabulary.tokens.some((token) => token.includes(apostrophe));
  if (!straightOnly.has(vocabulary)) straightOnly.set(vocabulary, has("'") && !has("’"));
  return straightOnly.get(vocabulary) ? text.replaceAll("’", "'") : text;
}

const linesBefore = new WeakMap(); // of each vocabulary: the lines of the last text, each with what is unknown in it

/** Returns `vocabulary.unknown(text)`, with halves of characters. No token goes on after a line feed; only new lines are looked at. */
function unknownByLines(vocabulary, text) {
  const before = linesBefore.get(vocabulary);
  const lines = new Map();
  const found = [];
  for (let start = 0, stop; start < text.length; start = stop) {
    stop = text.indexOf("\n", start) + 1 || text.length;
    const line = text.slice(start, stop);
    const ranges = lines.get(line) ?? before?.get(line) ?? unknownInLine(vocabulary, line);
    lines.set(line, ranges);
    for (const [from, to] of ranges) found.push({ start: start + from, end: start + to, text: line.slice(from, to) });
  }
  linesBefore.set(vocabulary, lines);
  return found;
}

/** Returns the ranges of a line that are unknown. Of a word with half of a character, only this half: without it, the word is read. */
function unknownInLine(vocabulary, line) {
  return vocabulary.unknown(line).flatMap(({ start, end, text }) => {
    if (text.isWellFormed()) return [[start, end]];
    return [...text.matchAll(HALF)].map(({ index }) => [start + index, start + index + 1]);
  });
}

/** Whether the model skips what it does not know. Other models read it as their token for unknown words. */
function skipsUnknown({ vocabulary }) {
  return vocabulary.unknownId < 0;
}

/**
 * Returns the text that the model reads for a text: a model of lines reads the last one; what it skips, and halves of characters, are
 * left out.
 */
export function readable(model, text) {
  const last = model.config.by_line === true ? text.slice(text.lastIndexOf("\n") + 1) : text;
  const line = withKnownApostrophes(model.vocabulary, last.replace(HALF, ""));
  if (!skipsUnknown(model)) return line;
  let read = "";
  let position = 0;
  for (const { start, end } of model.vocabulary.unknown(line)) {
    read += line.slice(position, start);
    position = end;
  }
  return read + line.slice(position);
}

/** Returns the text from which the model learns for a text of the user; `readable` gives a model of lines one line. */
export function learnable(model, text) {
  const parts = model.config.by_line === true ? text.split("\n") : [text];
  return parts.map((part) => readable(model, part)).join("\n");
}

/** Whether the model can read all words of a text. It would learn one that it reads in part as another word. */
export function readsWords(model, text) {
  if (!skipsUnknown(model)) return true;
  const unknown = model.vocabulary.unknown(withKnownApostrophes(model.vocabulary, text.replace(HALF, "")));
  return unknown.every((one) => ["space", "punctuation"].includes(classOf(one.text)));
}

/**
 * Returns the space that the next word at the caret needs first: after a word of the model, which is whole. A word of the user may be
 * unfinished, as may one of a model of characters. Split at white space, each token is a word, also one that ends in a full stop.
 */
export function spaceAfterWord({ vocabulary }, document, caret) {
  const token = vocabulary.level === "char" ? null : document.tokenAt(caret - 1);
  if (token?.end !== caret) return "";
  return vocabulary.level === "whitespace" || classOf(characterBefore(document.text, caret)) === "word" ? " " : "";
}

/** Whether a caret is inside a word, where a suggestion would split it. */
export function isInsideWord(text, caret) {
  if (caret === 0 || caret === text.length) return false;
  const after = String.fromCodePoint(text.codePointAt(caret));
  return [characterBefore(text, caret), after].every((one) => one.isWellFormed() && classOf(one) === "word");
}

/** Returns what to say about what the model does not know. */
export function unknownSentence(unknown) {
  const sentence = (found, verb, [one, several]) => {
    const all = [...new Set(found.map(({ text }) => text))];
    if (!all.length) return [];
    const named = all.slice(0, 3).map((it) => `‘${shown(it)}’`).join(", ");
    const more = all.length > 3 ? ` and ${all.length - 3} more` : "";
    return [`This model does not know ${named}${more}, and ${verb} ${all.length > 1 ? several : one}.`];
  };
  const read = unknown.filter(({ isSkipped }) => !isSkipped);
  const skipped = unknown.filter(({ isSkipped }) => isSkipped);
  return [
    ...sentence(read, "reads", ["it as an unknown word", "them as unknown words"]),
    ...sentence(skipped, "skips", ["it", "them"]),
  ].join(" ");
}

function shown(text) {
  return /[\p{L}\p{N}\p{P}\p{S}]/u.test(text) ? text.slice(0, 24) : codePoint(text);
}
