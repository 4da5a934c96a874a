// Runs what learns in export/web without a browser and without LiteRT.js, for tests/export/web/test_learning.py: JSON in, JSON out.
import { readFileSync } from "node:fs";
import { learnedFile, readLearned } from "../../export/web/keras_seq/learned_file.js";
import { learnFrom, learnOptions, segmentsOf } from "../../export/web/keras_seq/learning.js";
import { SETTINGS } from "../../export/web/keras_seq/options.js";
import { OwnWords } from "../../export/web/keras_seq/own_words.js";
import { Reader } from "../../export/web/keras_seq/reader.js";
import { requireSignatures } from "../../export/web/keras_seq/signatures.js";
import { begunWord, wordBefore } from "../../export/web/keras_seq/tokens.js";
import { Turns } from "../../export/web/keras_seq/turns.js";
import { Vocabulary } from "../../export/web/keras_seq/vocabulary.js";
import { Writer } from "../../export/web/keras_seq/writer.js";

async function valueOrError(compute) {
  try {
    return await compute();
  } catch (error) {
    return error.message;
  }
}

const inHex = (bytes) => Buffer.from(bytes).toString("hex");
const fromHex = (hex) => new Uint8Array(Buffer.from(hex, "hex"));

/** Each answer has the numbers of the file, and its bytes when it is written again. */
function files([model, all]) {
  const read = async (hex) => {
    const learned = await readLearned(fromHex(hex), model);
    const { weights, logShares, words, tokens } = learned;
    const again = inHex(await learnedFile(learned, model));
    return { tokens, words: words.toText(), weights: [...weights], logShares: [...logShares], again };
  };
  return Promise.all(all.map((hex) => valueOrError(() => read(hex))));
}

/** The calls of a model whose log-probabilities are given: a list for each call of `learn`. Returns what was called. */
async function learning([segments, rate, given]) {
  const called = [];
  const live = new Set();
  const states = () => {
    const one = { number: live.size };
    live.add(one);
    return one;
  };
  const weights = { weights: "before", logShares: [Math.log(0.2), Math.log(0.2), Math.log(0.6)] };
  let now = weights;
  const answers = [...given];
  const calls = {
    initialStates: states,
    release: (...all) => all.forEach((one) => live.delete(one)),
    weights: async () => now,
    async setWeights(learned) {
      now = learned;
      called.push(["set", learned.weights, [...learned.logShares]]);
    },
    async learn({ tokens, next, states: before }, rateOfCall) {
      if (!live.has(before)) throw new Error("The states were released.");
      called.push(["learn", tokens, next, rateOfCall]);
      const [logs, ofModel] = answers.shift();
      if (logs === "fails") throw new Error("The runtime failed.");
      if (rateOfCall > 0) now = { weights: "learned", logShares: now.logShares };
      const [logProbabilities, modelLogProbabilities] = [logs, ofModel].map((one) => new Float32Array(next.length).fill(one ?? NaN));
      return { logProbabilities, modelLogProbabilities, states: states() };
    },
  };
  const report = await valueOrError(() => learnFrom(segments, 1, rate, calls));
  return { report, called, live: live.size, now: now.weights };
}

/** Returns the order in which calls begin and end. `kinds` are calls of Turns that take some ticks. */
async function turns(kinds) {
  const lines = [];
  const all = new Turns();
  const call = async ([kind, ticks], index) => {
    const work = async () => {
      lines.push(`${index} begins`);
      for (let tick = 0; tick < ticks; tick++) await null;
      lines.push(`${index} ends`);
      if (ticks === 3) throw new Error("failed");
    };
    await all[kind](work).catch(() => {});
  };
  await Promise.all(kinds.map(call));
  return lines;
}

/** A model that draws the same token again and again. It learns after some tokens; `late`: in the worker, before the page knows. */
async function written([file, { settings, learns, late, hasWrite = true }]) {
  const vocabulary = new Vocabulary(file);
  const live = new Set();
  const states = () => {
    const one = {};
    live.add(one);
    return one;
  };
  let version = 0; // of the worker
  const drawn = (count) => ({
    tokens: Array(count).fill(vocabulary.tokens.length - 1),
    logProbabilities: Array(count).fill(-1),
    states: states(),
    version,
  });
  const model = {
    vocabulary,
    hasWrite,
    learning: { version: 0 },
    begin: async () => ({ token: vocabulary.startId, states: states() }),
    release: (...all) => all.forEach((one) => live.delete(one)),
    sample: async () => drawn(1),
    write: async (token, numbers, length) => drawn(length),
  };
  const writer = new Writer(model, "", { max_tokens: 100 }, SETTINGS);
  let count = 0;
  const message = await valueOrError(async () => {
    if (learns === 0) model.learning.version = version = 1;
    for await (const _ of writer) {
      if (++count === learns) {
        version += 1;
        if (!late) model.learning.version = version;
        if (settings) writer.change(settings);
      }
    }
    return writer.finishReason;
  });
  return [count, message, live.size];
}

/** Reads texts with a model whose logits are its version and the tokens that it reads; `null` learns. */
async function reading(texts) {
  const live = new Set();
  const states = () => {
    const one = {};
    live.add(one);
    return one;
  };
  let tokens = 0;
  const model = {
    vocabulary: { startId: 1 },
    learning: { version: 0 },
    initialStates: async () => states(),
    release: (...all) => all.forEach((one) => live.delete(one)),
    async read(ids, before) {
      if (!live.has(before)) throw new Error("The states were released.");
      tokens += ids.length;
      return { logits: [model.learning.version, ids.at(-1)], states: states() };
    },
  };
  const reader = new Reader(model);
  const found = [];
  for (const ids of texts) {
    if (ids === null) model.learning.version += 1;
    else {
      tokens = 0;
      found.push([...(await reader.read(ids)).logits, tokens]);
    }
  }
  return found;
}

function runner([inputs, outputs]) {
  const details = (tensors) => Object.entries(tensors).map(([name, [dtype, ...shape]]) => ({ name, dtype, shape }));
  return { getInputDetails: () => details(inputs), getOutputDetails: () => details(outputs) };
}

/** Returns the own words as text after each of some texts. */
function ownWords(texts) {
  const own = new OwnWords();
  return texts.map((text) => {
    own.learn(text);
    return own.toText();
  });
}

const tasks = {
  ownWords: (cases) => cases.map(ownWords),
  readOwnWords: (texts) => Promise.all(texts.map((text) => valueOrError(() => [OwnWords.fromText(text).toText()]))),
  wordsBefore: (texts) => texts.map((text) => wordBefore(text, begunWord(text))),
  files,
  learning: (cases) => Promise.all(cases.map(learning)),
  turns: (cases) => Promise.all(cases.map(turns)),
  written: (cases) => Promise.all(cases.map(written)),
  reading,
  segments: (cases) =>
    Promise.all(cases.map(([file, text, byLine]) => valueOrError(() => segmentsOf(text, new Vocabulary(file), byLine)))),
  options: (cases) => Promise.all(cases.map(([options, config]) => valueOrError(() => learnOptions(options, config)))),
  signatures: (cases) =>
    Promise.all(
      cases.map(([signatures, tokens, config]) =>
        valueOrError(() => {
          const runners = Object.fromEntries(Object.entries(signatures).map(([name, one]) => [name, runner(one)]));
          requireSignatures(runners, { tokens: { length: tokens } }, config);
          return null;
        }),
      ),
    ),
};
const [task, given] = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await tasks[task](given)));
