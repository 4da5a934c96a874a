// Runs a model for worker.js: answers its calls, and keeps the states, for which it gives out numbers.

import { loadFrom } from "./litert.js";
import { Model } from "./model.js";
import { bytesOf } from "./text_model.js";

let model;
let kept = 0;
const states = new Map();
const readings = new Map(); // what aborts the calls of `read`, by their numbers

function keep(one) {
  states.set(++kept, one);
  return kept;
}

/** Returns the states that a number stands for, which the call consumes. */
function take(number) {
  const one = states.get(number);
  states.delete(number);
  return one;
}

function withNumber(answer) {
  return answer && { ...answer, states: keep(answer.states) };
}

const methods = {
  async load(_, source, folder) {
    const [bytes] = await Promise.all([bytesOf(source), loadFrom(folder)]);
    model = await Model.load(bytes);
    const { vocabulary, config, card, hasWrite } = model;
    return { file: vocabulary.file, config, card, hasWrite };
  },
  initialStates: async () => keep(await model.initialStates()),
  async read(number, tokens, before) {
    const abort = new AbortController();
    readings.set(number, abort);
    try {
      return withNumber(await model.read(tokens, take(before), abort.signal));
    } finally {
      readings.delete(number);
    }
  },
  abort: (_, number) => readings.get(number)?.abort(),
  decode: async (_, token, before) => withNumber(await model.decode(token, states.get(before))),
  sample: async (_, token, uniform, settings, before) => withNumber(await model.sample(token, uniform, settings, states.get(before))),
  write: async (_, token, uniforms, length, settings, before) =>
    withNumber(await model.write(token, uniforms, length, settings, states.get(before))),
  score: (_, ids) => model.score(ids),
  release: (_, ...numbers) => model.release(...numbers.map(take)),
};

addEventListener("message", async ({ data: { number, method, given } }) => {
  let message;
  try {
    message = { number, answer: await methods[method](number, ...given) };
  } catch (error) {
    message = { number, error: error.message };
  }
  if (number !== undefined) postMessage(message);
});
