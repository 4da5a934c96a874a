// Which verb two models expect after each word of a sentence: one row per word, one column per model.

import { inOrder, memoryOf } from "./compare_memory.js";
import { cell, wordCell } from "./compare_table.js";
import { element, percent } from "./elements.js";

// Forms for one and for several, of verbs that follow such subjects. A model may know only some of them.
const VERBS = [
  ["was", "were"],
  ["is", "are"],
  ["has", "have"],
];

/**
 * Returns the ids of the verb's forms that a model knows, the first pair of them.
 * @throws {Error} it knows none
 */
export function verbsOf(model) {
  const idOf = (word) => {
    const ids = model.vocabulary.unknown(` ${word}`).length ? [] : model.encode(` ${word}`);
    return ids.length === 1 ? ids[0] : null;
  };
  const known = VERBS.map((words) => ({ words, ids: words.map(idOf) })).find(({ ids }) => !ids.includes(null));
  if (known) return { singular: known.words[0], plural: known.words[1], ids: known.ids };
  const pairs = VERBS.map(([one, several]) => `${one} and ${several}`).join(", or ");
  const advice = "Open a model of words, such as those of keras-seq demo.";
  throw new Error(`The model must know a verb as one word, for one and for several: ${pairs}. ${advice}`);
}

/** Returns what a model expects after a token: the verb, its number, its share of both forms together, and that of the plural. */
export function expected(step, verbs, name) {
  const [one, several] = verbs.ids.map((id) => step.logProbabilities[id]);
  const areNumbers = Number.isFinite(one) && Number.isFinite(several);
  if (!areNumbers) throw new Error(`The ${name} does not give finite probabilities: its training diverged. Train it again.`);
  const share = 1 / (1 + Math.exp(one - several)); // of the plural: both probabilities may be too small to be divided
  const number = share > 0.5 ? "plural" : "singular";
  return { number, verb: verbs[number], share: Math.max(share, 1 - share), ofPlural: share };
}

/**
 * Returns the table of a sentence. `columns` has for each model a name, `steps`: what is expected after each word, and `others`: the
 * same with the subject of the other number, or null.
 */
export function verbTable(words, subject, verbs, columns) {
  const head = element("tr", {}, [
    element("th", { scope: "col" }, ["Word"]),
    ...columns.map(({ name }) => element("th", { scope: "col" }, [name, sides(verbs)])),
  ]);
  const rows = words.map((word, index) =>
    element("tr", { className: index === words.length - 1 ? "last" : "" }, [
      wordCell(word, index, subject),
      ...columns.map(({ steps, others }) => cell([bar(steps[index], index < subject?.position ? null : others?.[index], subject)])),
    ]),
  );
  return element("table", { className: "verbs" }, [element("thead", {}, [head]), element("tbody", {}, rows)]);
}

/** Returns what the two sides of a column mean. */
function sides(verbs) {
  const both = [`← ${verbs.singular}`, `${verbs.plural} →`].map((side) => element("span", {}, [side]));
  return element("span", { className: "sides" }, both);
}

/**
 * Returns the bar of one word: to the left for one, to the right for several, as long as the model is sure. A thin mark shows
 * where it ends with the other subject; the colour says what the model remembers. Without another reading there is neither.
 */
function bar(reading, other, subject) {
  const memory = other ? memoryOf(...inOrder(subject, reading, other)) : "";
  const made = element("div", { className: `bar ${reading.number} ${memory}` });
  made.style.setProperty("--sure", (2 * reading.share - 1).toFixed(3));
  const verb = element("span", { className: "verb" }, [`${reading.verb} `]);
  const label = element("span", { className: "label" }, [verb, percent(reading.share)]);
  if (other) made.append(markOf(other, subject));
  if (["forgotten", "reversed"].includes(memory)) {
    const sign = element("span", { className: "sign", ariaHidden: "true" }, ["✗ "]);
    label.prepend(sign, element("span", { className: "hidden" }, [`${memory}: `]));
  }
  made.append(label);
  return made;
}

/** Returns the mark of the other reading. */
function markOf({ verb, share, ofPlural }, subject) {
  const text = `with “${subject.other}”: ${verb} ${percent(share)}`;
  const made = element("i", { className: "mark", role: "img", ariaLabel: text, title: text });
  made.style.setProperty("--at", ofPlural.toFixed(3));
  return made;
}
