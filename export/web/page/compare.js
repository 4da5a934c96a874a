// The comparison: two models read a sentence up to its verb; the page shows which verb each of them expects after each word, and
// what the GRU keeps of the subject.

import { newSeed } from "../keras_seq/random.js";
import { KerasSeqWorker } from "../keras_seq/worker.js";
import { gateCaption, gateTable, unitsToShow } from "./compare_gates.js";
import { DISTANCES, drawSentence, subjectOf, wordsBetween } from "./compare_sentence.js";
import { element } from "./compare_table.js";
import { expected, verbsOf, verbTable, verdict } from "./compare_verbs.js";
import { at, showError } from "./elements.js";
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

/** Requires a text that both models can read in the same words. */
function requireReadable(text) {
  if (!text) throw new Error("Type a sentence up to its verb, such as: the cats, which saw the dog,");
  for (const { name, model } of shown) {
    const unknown = [...new Set(model.vocabulary.unknown(text).map((one) => one.text))].slice(0, 5);
    const listed = unknown.map((word) => JSON.stringify(word)).join(", ");
    if (unknown.length) {
      throw new Error(`The ${name} does not know ${listed}: it was trained on the words of a small grammar. Use other words.`);
    }
  }
  const [one, other] = shown.map(({ model }) => model.encode(text).map((id) => model.vocabulary.tokens[id]));
  if (one.length > MOST_WORDS) throw new Error(`The sentence must have at most ${MOST_WORDS} words. Received: ${one.length}.`);
  const isSame = one.join("\n") === other.join("\n") && shown[0].verbs.singular === shown[1].verbs.singular;
  if (!isSame) throw new Error("The models split the sentence differently, or know other verbs: open two with the same vocabulary.");
}

async function read() {
  if (!shown.every(Boolean)) return;
  clearTimeout(typing);
  const number = ++readings;
  try {
    const text = at("text").value.trim();
    requireReadable(text);
    const traces = await Promise.all(shown.map(({ model }) => model.trace(text)));
    if (number !== readings) return;
    showError(null);
    show(traces.map((trace) => trace.slice(1))); // without <s>
  } catch (error) {
    if (number !== readings) return;
    showError(error);
    at("figure").hidden = true;
    at("verdicts").replaceChildren();
  }
}

/** Shows what the models expect after each word. */
function show(traces) {
  const words = traces[0].map(({ text }) => text);
  const subject = subjectOf(words);
  showChoices(words, subject);
  const { verbs } = shown[0];
  const expectedBy = ({ name, verbs: own }, index) => ({ name, steps: traces[index].map((step) => expected(step, own, name)) });
  const columns = shown.map(expectedBy);
  at("verdicts").replaceChildren(...columns.map(({ name, steps }) => verdict(name, steps.at(-1), subject)));
  at("verbs").replaceChildren(verbTable(words, subject, verbs, columns));
  at("verbs_caption").replaceChildren(...verbsCaption(subject, verbs));
  showGates(words, subject, traces);
  at("figure").hidden = false;
}

function verbsCaption(subject, verbs) {
  const what = `Percent: the share of “${verbs.singular}” or “${verbs.plural}” among both, if the verb came now. `;
  if (subject === null) return [what];
  const marked = element("span", { className: "subject" }, [subject.word]);
  const misleading = element("span", { className: "other" }, ["dotted words"]);
  const signs = " are nouns of the other number, which mislead. ✗ marks what does not agree with the subject.";
  return [what, marked, " is the subject. The ", misleading, signs];
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
