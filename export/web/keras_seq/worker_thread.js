// Runs a model for worker.js: answers its calls, and keeps the states, for which it gives out numbers.

import { loadFrom } from "./litert.js";
import { Model } from "./model.js";
import { bytesOf } from "./source.js";
import { TextModel } from "./text_model.js";

let model;
let text; // what the model can do with text
let given = 0;
const states = new Map(); // by the numbers that stand for them
const running = new Map(); // what aborts the calls that can be aborted, by their numbers

function withNumber({ states: one, ...answer }) {
  states.set(++given, one);
  return { ...answer, states: given };
}

/** Returns what the page knows of what the model has learned. */
function learning() {
  const { isPossible, tokens, version } = model.learning;
  return { isPossible, tokens, version };
}

async function withLearning(work) {
  const answer = await work;
  return { answer, learning: learning() };
}

let receiveWasm;
const wasm = new Promise((resolve) => (receiveWasm = resolve)); // which the page compiles while this script loads

/** Calls that answer with what they compute. */
const answers = {
  async load(_, source, folder) {
    model = await Model.load(bytesOf(source), loadFrom(folder, wasm));
    text = new TextModel(model);
    const { vocabulary, config, card, hasWrite } = model;
    return { file: vocabulary.file, config, card, hasWrite, learning: learning() };
  },
  suggest: (signal, read, count) => text.suggest(read, count, { signal }),
  nextTokens: (signal, read, count) => text.nextTokens(read, count, { signal }),
  score: (_, read) => text.score(read),
  trace: (_, read) => text.trace(read),
  learn: (_, read, options) => withLearning(text.learn(read, options)),
  saveLearned: () => text.saveLearned(),
  loadLearned: (_, bytes) => withLearning(text.loadLearned(bytes)),
  forget: () => withLearning(text.forget()),
  begin: async (signal, prompt) => withNumber(await model.begin(prompt, signal)),
  decode: async (_, token, before) => withNumber(await model.decode(token, states.get(before))),
  sample: async (_, token, uniform, settings, before) => withNumber(await model.sample(token, uniform, settings, states.get(before))),
  write: async (_, token, uniforms, length, settings, before) =>
    withNumber(await model.write(token, uniforms, length, settings, states.get(before))),
};

/** Messages that are not answered. */
const orders = {
  wasm: (compiled) => receiveWasm(compiled),
  abort: (number) => running.get(number)?.abort(),
  release(...numbers) {
    model.release(...numbers.map((number) => states.get(number)));
    for (const number of numbers) states.delete(number);
  },
};

addEventListener("message", async ({ data: { number, method, values } }) => {
  if (number === undefined) return orders[method](...values);
  const abort = new AbortController();
  running.set(number, abort);
  let message;
  try {
    message = { number, answer: await answers[method](abort.signal, ...values) };
  } catch ({ name, message: error }) {
    message = { number, error, name };
  }
  running.delete(number);
  postMessage(message);
});
