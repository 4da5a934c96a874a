// The comparison: two models read a sentence up to its verb; the page shows which verb each of them expects after each word, and
// what the GRU keeps of the subject.

import { newSeed } from "../keras_seq/random.js";
import { KerasSeqWorker } from "../keras_seq/worker.js";
import { gateCaption, gateTable, unitsToShow } from "./compare_gates.js";
import { rule, verdict } from "./compare_memory.js";
import { DISTANCES, drawSentence, subjectOf, tidied, wordsBetween } from "./compare_sentence.js";
import { expected, verbsOf, verbTable } from "./compare_verbs.js";
import { at, element, showError } from "./elements.js";
import { listedModels } from "./opening.js";

const FIRST_DISTANCE = 7; // words between subject and verb, on arrival
const TYPING = 150; // milliseconds without a key, after which the models read
const MOST_WORDS = 200;

const shown = [null, null]; // the models: {name, model, verbs}
let requests = 0; // models requested so far
const opened = [0, 0]; // the requests of the models that are shown: no earlier one is shown after it
let seed = newSeed();
let readings = 0; // only the last one is shown, whichever is ready first

/** Returns an error that names its file. */
function named(name, error) {
  return new Error(`${name}: ${error.message}`, { cause: error });
}

// ---- opening ----

/** Opens a model at a position, and closes the one that was there. */
async function open(position, { name, source }) {
  const number = ++requests;
  let model = null;
  try {
    model = await KerasSeqWorker.load(source);
    const verbs = verbsOf(model);
    if (number < opened[position]) return model.close();
    opened[position] = number;
    shown[position]?.model.close();
    shown[position] = { name: String(model.card.name ?? name).slice(0, 40), model, verbs };
  } catch (error) {
    model?.close();
    if (number < opened[position]) return; // Another file has been chosen since.
    throw named(name, error);
  }
}

async function openListed() {
  const { compare } = await listedModels();
  if (compare.length !== 2) return;
  at("status").textContent = `Opening ${compare.map(({ name }) => name).join(" and ")} …`;
  await Promise.all(compare.map((model, position) => open(position, model)));
}

/** Shows what is there: the comparison, or how to come to two models. */
function showState() {
  const isReady = shown.every(Boolean);
  at("status").textContent = "";
  at("comparison").hidden = !isReady;
  at("opening").hidden = false;
  if (!isReady) return;
  at("other").append(at("opening"));
  read();
}

for (const position of [0, 1]) {
  at(`file_${position}`).addEventListener("change", async ({ target }) => {
    const [file] = target.files;
    if (!file) return; // The user cancelled the dialog.
    showError(null);
    at("status").textContent = `Opening ${file.name} …`;
    try {
      await open(position, { name: file.name, source: file });
    } catch (error) {
      showError(error);
    }
    showState();
  });
}

// ---- the sentence ----

const countWords = (count) => (count === 1 ? "1 word" : `${count} words`);
const numberChosen = () => document.querySelector("input[name=number]:checked").value;
const distanceChosen = () => DISTANCES[at("distance").valueAsNumber];

/** Shows what the sentence has: the user may have typed it. */
function showChoices(words, subject) {
  at("between").textContent = subject === null ? "no noun" : countWords(wordsBetween(words, subject));
  if (subject !== null) document.querySelector(`input[name=number][value=${subject.number}]`).checked = true;
}

function draw() {
  at("distance").ariaValueText = countWords(distanceChosen());
  at("text").value = drawSentence(seed, numberChosen(), distanceChosen());
  read();
}

at("sentence").addEventListener("submit", (event) => event.preventDefault());
for (const radio of document.querySelectorAll("input[name=number]")) radio.addEventListener("change", draw);
at("distance").addEventListener("input", draw);
at("another").addEventListener("click", () => {
  seed = newSeed();
  draw();
});

let typing = 0;
at("text").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(read, TYPING);
});

// ---- reading ----

/** Returns the sentence of the text area, as the models read it. */
function sentence() {
  const hasCapitals = shown.some(({ model }) => model.vocabulary.tokens.some((token) => /^ ?\p{Lu}/u.test(token)));
  return tidied(at("text").value, hasCapitals);
}

/** Requires that a model knows all words of a text. */
function requireKnown({ name, model: { vocabulary } }, text) {
  const unknown = vocabulary.unknown(text);
  if (!unknown.length) return;
  const [first] = unknown;
  if (first.start === 0 && !vocabulary.unknown(` ${first.text}`).length) {
    throw new Error(`The ${name} knows "${first.text}" only after another word. Begin with: the ${first.text}`);
  }
  const words = [...new Set(unknown.map((one) => one.text))].slice(0, 5);
  const listed = words.map((word) => JSON.stringify(word)).join(", ");
  throw new Error(`The ${name} does not know ${listed}: it was trained on the words of a small grammar. Use other words.`);
}

/** Requires a text that both models can read in the same words; returns these words. */
function requireWords(text) {
  if (!text) throw new Error("Type a sentence up to its verb, such as: the cats, which saw the dog,");
  for (const one of shown) requireKnown(one, text);
  const [words, other] = shown.map(({ model }) => model.encode(text).map((id) => model.vocabulary.tokens[id]));
  if (words.length > MOST_WORDS) throw new Error(`The sentence must have at most ${MOST_WORDS} words. Received: ${words.length}.`);
  const isSame = words.join("\n") === other.join("\n") && shown[0].verbs.singular === shown[1].verbs.singular;
  if (!isSame) throw new Error("The models split the sentence differently, or know other verbs: open two with the same vocabulary.");
  return words;
}

/** Returns the sentence with the other form of its subject, all other words the same; null if not all models know that form. */
function withOtherSubject(words, subject) {
  const { vocabulary } = shown[0].model;
  const changed = words.with(subject.position, words[subject.position].replace(subject.word, subject.other));
  const ids = changed.map((word) => vocabulary.ids.get(word));
  if (ids.includes(undefined)) return null;
  const text = vocabulary.decode(ids).trim();
  return shown.every(({ model }) => !model.vocabulary.unknown(text).length) ? text : null;
}

/** Returns what each model expects after each word of a text, and its traces, both without `<s>`. */
async function readBy(text) {
  const traces = await Promise.all(shown.map(({ model }) => model.trace(text)));
  return traces.map((trace, index) => {
    const steps = trace.slice(1);
    return { trace: steps, expects: steps.map((step) => expected(step, shown[index].verbs, shown[index].name)) };
  });
}

async function read() {
  if (!shown.every(Boolean)) return;
  clearTimeout(typing);
  const number = ++readings;
  try {
    const text = sentence();
    const words = requireWords(text);
    const subject = subjectOf(words);
    const other = subject && withOtherSubject(words, subject);
    const [found, others] = await Promise.all([readBy(text), other && readBy(other)]);
    if (number !== readings) return;
    showError(null);
    show(words, subject, found, others);
  } catch (error) {
    if (number !== readings) return;
    showError(error);
    at("figure").hidden = true;
    at("verdicts").replaceChildren();
    at("rule").replaceChildren();
  }
}

/** Shows what the models expect after each word; `others` is what they expect with the other subject, or null. */
function show(words, subject, found, others) {
  showChoices(words, subject);
  const { verbs } = shown[0];
  const columns = shown.map(({ name }, index) => ({
    name,
    steps: found[index].expects,
    others: others && others[index].expects,
  }));
  const end = ({ name, steps, others: second }) => verdict(name, steps.at(-1), second?.at(-1), subject);
  at("verdicts").replaceChildren(...columns.map(end));
  at("rule").replaceChildren(...rule(subject, verbs, others !== null));
  at("verbs").replaceChildren(verbTable(words, subject, verbs, columns));
  at("verbs_caption").replaceChildren(...verbsCaption(subject, verbs, others !== null));
  showGates(words, subject, found.map(({ trace }) => trace));
  at("figure").hidden = false;
}

function verbsCaption(subject, verbs, hasOther) {
  const what = `Percent: the share of “${verbs.singular}” or “${verbs.plural}” among both, if the verb came now. `;
  if (subject === null) return [what];
  const marked = element("span", { className: "subject" }, [subject.word]);
  const misleading = element("span", { className: "other" }, ["dotted words"]);
  const nouns = [what, marked, " is the subject. The ", misleading, " are nouns of the other number, which mislead. "];
  if (!hasOther) return nouns;
  const mark = element("i", { className: "mark", ariaHidden: "true" });
  return [...nouns, mark, ` marks the share with “${subject.other}” instead; ✗: the subject is forgotten at this word.`];
}

function showGates(words, subject, traces) {
  const position = traces.findIndex(([step]) => step.updateGates !== null);
  at("gates_section").hidden = position < 0;
  if (position < 0) return;
  const gates = traces[position].map(({ updateGates }) => updateGates.at(-1)); // of the last layer
  const units = unitsToShow(gates, subject?.position ?? null);
  at("gates_title").textContent = `What does the ${shown[position].name} keep?`;
  at("gates").replaceChildren(gateTable(words, subject, gates, units));
  at("gates_caption").textContent = gateCaption(words, subject, gates, units);
}

at("distance").max = DISTANCES.length - 1;
at("distance").value = DISTANCES.indexOf(FIRST_DISTANCE);
draw();
openListed()
  .catch(showError)
  .then(showState);
