// What the model reads of a text: all that it knows, up to the caret.

import { classOf, codePoint } from "../keras_seq/tokens.js";

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
 * Returns the space that the next word at the caret needs first: after a word of the model, which is whole. A word of the user may be
 * unfinished, as may one of a model of characters.
 */
export function spaceAfterWord({ vocabulary }, document, caret) {
  const token = vocabulary.level === "char" ? null : document.tokenAt(caret - 1);
  const isWord = token?.end === caret && classOf(document.text[caret - 1]) === "word";
  return isWord ? " " : "";
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
