// Runs modules of export/web/page without a browser, for tests/export/web/test_page_modules.py: JSON in, JSON out.
import { readFileSync } from "node:fs";
import { nameOf, titleOf } from "../../export/web/page/alternatives.js";
import { levelOf, linesOf, partsOf } from "../../export/web/page/backdrop.js";
import { Document, editBetween, movedRanges } from "../../export/web/page/document.js";
import { withoutSpace } from "../../export/web/page/editor.js";
import { amountSentence, effectAfter, effectSentence, NO_EFFECT } from "../../export/web/page/effect.js";
import { percent } from "../../export/web/page/elements.js";
import { endOfOpening } from "../../export/web/page/prompts.js";
import { isInsideWord, learnable, readable, readsWords } from "../../export/web/page/reading.js";
import { spaceAfterWord, unknownIn, unknownSentence } from "../../export/web/page/reading.js";
import { finishedParts, rangesAfter, Typed } from "../../export/web/page/typed.js";
import { Vocabulary } from "../../export/web/keras_seq/vocabulary.js";

/** Makes changes in a document; returns its text and tokens after each, and what it can undo. */
function history(changes) {
  let document = new Document();
  return changes.map(([name, ...given]) => {
    let answer = null;
    if (name === "reload") document = Document.from(JSON.parse(JSON.stringify(document.state())));
    else answer = document[name](...given) ?? null;
    const { text, written } = document.state();
    const run = document.lastRun();
    return { text, written, answer, canUndo: document.canUndo, canRedo: document.canRedo, lastRun: run.length ? run[0].start : null };
  });
}

const modelOf = ([file, by_line]) => ({ vocabulary: new Vocabulary(file), config: by_line === null ? {} : { by_line } });

/** Types, and changes a text otherwise; returns what is given out to learn from after each change. */
function typed([steps, byLine, unwanted]) {
  const typed = new Typed();
  const canLearn = (part) => !unwanted.some((one) => part.includes(one));
  return steps.map(([text, caret, isTyped]) => {
    if (isTyped === null) typed.begin(text);
    else typed.follow(text, caret, isTyped);
    return typed.take({ start: caret, end: caret }, { byLine, canLearn });
  });
}

const tasks = {
  typed: (all) => all.map(typed),
  ranges: (all) => all.map((edits) => edits.reduce((ranges, edit) => rangesAfter(ranges, ...edit), [])),
  finished: (all) =>
    all.map(([text, caret, byLine]) =>
      finishedParts(text, { start: caret, end: caret }, byLine).map(({ start, end }) => text.slice(start, end)),
    ),
  effects: (reports) => reports.reduce((all, report) => [...all, effectAfter(all.at(-1), ...report)], [NO_EFFECT]),
  effectSentences: (effects) => effects.map(effectSentence),
  amounts: (all) => all.map((given) => amountSentence(...given)),
  learnable: ([model, texts]) => texts.map((text) => [learnable, readsWords].map((read) => read(modelOf(model), text))),
  history,
  histories: (all) => all.map(history),
  edits: (all) => all.map((given) => editBetween(...given)),
  spaces: (all) => all.map((given) => withoutSpace(...given)),
  damaged: (states) => states.map((state) => Document.from(state)),
  parts: (all) => all.map((given) => partsOf(...given)),
  lines: (all) => all.map(([text, ...given]) => linesOf(text, partsOf(text, ...given))),
  moved: (all) => all.map((given) => movedRanges(...given)),
  levels: (all) => all.map(levelOf),
  names: (all) => all.map(nameOf),
  percents: (all) => all.map(percent),
  titles: (all) => all.map((given) => titleOf(...given)),
  openings: (all) => all.map((pieces) => pieces.findIndex(((isLast) => (text) => isLast({ text }))(endOfOpening()))),
  readable: ([model, texts]) => texts.map((text) => readable(modelOf(model), text)),
  insides: ([text, carets]) => carets.map((caret) => isInsideWord(text, caret)),
  spacesAfter: ([model, states]) =>
    states.map(([state, caret]) => spaceAfterWord(modelOf(model), Document.from(state), caret)),
  inOneModel: ([model, texts]) => {
    const one = modelOf(model);
    return texts.map((text) => [unknownIn(one, text), one.vocabulary.unknown(text)]);
  },
  unknown: ([model, texts]) =>
    texts.map(([text, caret]) => {
      const found = unknownIn(modelOf(model), text, caret);
      return [found.map((it) => it.text), found.length ? unknownSentence(found) : null];
    }),
};

const [task, given] = JSON.parse(readFileSync(0, "utf8"));
process.stdout.write(JSON.stringify(tasks[task](given)));
