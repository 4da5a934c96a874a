// What the model reads of a text: all that it knows, up to the caret.

import { codePoint } from "../keras_seq/tokens.js";

const LONGEST = 4096; // characters before the caret that suggestions need; what is further away changes hardly any of them

/**
 * Returns what the model does not know in a text, `{start, end, text}`. A word that is being typed, at the caret, is not finished and
 * not reported. A model of lines reads no line feeds.
 */
export function unknownIn({ vocabulary, config }, text, caret = -1) {
  const isUnfinished = ({ end }) => vocabulary.level !== "char" && end === caret;
  const isBreak = (one) => config.by_line === true && one.text === "\n";
  return vocabulary.unknown(text).filter((one) => !isBreak(one) && !isUnfinished(one));
}

/** Whether the model skips what it does not know. Other models read it as their token for unknown words. */
export function skipsUnknown({ vocabulary }) {
  return vocabulary.unknownId < 0;
}

/** Returns the text that the model reads for a text: a model of lines reads the last one; what it skips is left out. */
export function readable(model, text) {
  const line = model.config.by_line === true ? text.slice(text.lastIndexOf("\n") + 1) : text;
  if (!skipsUnknown(model)) return line;
  let read = "";
  let position = 0;
  for (const { start, end } of model.vocabulary.unknown(line)) {
    read += line.slice(position, start);
    position = end;
  }
  return read + line.slice(position);
}

/**
 * Returns the part of a text that suggestions read: its end, from a beginning that stays the same while the text grows, so that the
 * model need not read it again for each character.
 */
export function recent(text) {
  const start = Math.max(0, Math.floor(text.length / LONGEST) - 1) * LONGEST;
  const isInside = text.charCodeAt(start) >= 0xdc00 && text.charCodeAt(start) < 0xe000; // the second half of a character
  return text.slice(isInside ? start + 1 : start);
}

/** Returns the sentence about what the model does not know; `name` is that of the model. */
export function unknownSentence(model, name, unknown) {
  const kind = model.vocabulary.level === "char" ? "character" : "word";
  const all = [...new Set(unknown.map(({ text }) => text))];
  const named = all.slice(0, 3).map((one) => `‘${shown(one)}’`).join(", ");
  const more = all.length > 3 ? ` and ${all.length - 3} more ${kind}s` : "";
  const { tokens, unknownId } = model.vocabulary;
  const [it, them] = all.length > 1 ? ["them", `these ${kind}s`] : ["it", `this ${kind}`];
  const reads = skipsUnknown(model) ? `skips ${it}` : `reads ${them} as ${tokens[unknownId]}`;
  return `${name} does not know ${named}${more}, and ${reads}.`;
}

function shown(text) {
  return /[\p{L}\p{N}\p{P}\p{S}]/u.test(text) ? text.slice(0, 24) : codePoint(text);
}
