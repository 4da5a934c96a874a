// Runs modules of export/web without a browser and without LiteRT.js, for tests/export/web/test_modules.py: JSON in, JSON out.
import { File } from "node:buffer";
import { readFileSync } from "node:fs";
import { readBundle } from "../../export/web/keras_seq/bundle.js";
import { addBias, costs, IntegerDraw, integerSettings, logitStep } from "../../export/web/keras_seq/integer_draw.js";
import { nextTokens } from "../../export/web/keras_seq/likeliest.js";
import { SETTINGS, writeOptions } from "../../export/web/keras_seq/options.js";
import { OwnWords } from "../../export/web/keras_seq/own_words.js";
import { threefry, uniforms } from "../../export/web/keras_seq/random.js";
import { bytesOf } from "../../export/web/keras_seq/source.js";
import { StopFilter } from "../../export/web/keras_seq/stop_strings.js";
import { suggestions } from "../../export/web/keras_seq/suggest.js";
import { TextModel } from "../../export/web/keras_seq/text_model.js";
import { splitWords } from "../../export/web/keras_seq/tokens.js";
import { Vocabulary } from "../../export/web/keras_seq/vocabulary.js";
import { KerasSeqWorker } from "../../export/web/keras_seq/worker.js";
import { Writer } from "../../export/web/keras_seq/writer.js";

function valueOrError(compute) {
  try {
    return compute();
  } catch (error) {
    return error.message;
  }
}

/** Gives the logits of the row of the last token. */
function tableModel(vocabulary, rows) {
  const after = (id) => ({ logits: Float32Array.from(rows[id]), states: id });
  return { read: async (ids) => after(ids.at(-1) ?? vocabulary.startId), step: async (id) => after(id) };
}

/** A runtime whose draws are given; it counts the states that were not released, and its calls. */
function drawingModel(vocabulary, { tokens, logProbabilities, logits = [0], failing = [], hasWrite = true }) {
  const live = new Set();
  const calls = { write: 0, sample: 0 };
  const states = (position) => {
    const one = { position };
    live.add(one);
    return one;
  };
  const draw = (position, count) => ({
    tokens: tokens.slice(position, position + count),
    logProbabilities: logProbabilities.slice(position, position + count).map((it) => it ?? NaN),
    states: states(position + count),
    version: 0,
  });
  return {
    vocabulary,
    learning: { version: 0 },
    hasWrite,
    live,
    calls,
    begin: async () => ({ token: vocabulary.startId, states: states(0) }),
    release: (...all) => all.forEach((one) => live.delete(one)),
    decode: async () => ({ logits: logits.map((it) => it ?? NaN), states: states(0) }),
    async sample(token, numbers, settings, { position }) {
      calls.sample += 1;
      return draw(position, 1);
    },
    async write(token, numbers, length, settings, { position }) {
      calls.write += 1;
      if (failing.includes(calls.write)) throw new Error("The runtime failed.");
      return draw(position, length);
    },
  };
}

async function writing([file, given, options]) {
  const model = drawingModel(new Vocabulary(file), given);
  const writer = new Writer(model, "", options, SETTINGS);
  let text = "";
  let message = null;
  try {
    for await (const piece of writer) text += piece.text;
  } catch (error) {
    message = error.message;
  }
  return { text, message, reason: writer.finishReason, live: model.live.size, ...model.calls };
}

/** Suggests while a text grows, and aborts just when the model has read it; returns what the model read, and the states left. */
async function abortedSuggestions(file) {
  const vocabulary = new Vocabulary(file);
  const live = new Set();
  const read = [];
  let abort;
  const after = () => {
    const states = {};
    live.add(states);
    return { logits: new Float32Array(vocabulary.tokens.length), states };
  };
  const text = new TextModel({
    vocabulary,
    learning: { version: 0 },
    config: { sampling: {} },
    initialStates: async () => after().states,
    release: (...all) => all.forEach((one) => live.delete(one)),
    async read(tokens, states) {
      live.delete(states);
      read.push(tokens.length);
      abort.abort();
      return after();
    },
    decode: async () => after(),
  });
  const errors = new Set();
  for (const typed of ["a", "aa", "aaaa"]) {
    abort = new AbortController();
    await text.suggest(typed, 3, { signal: abort.signal }).catch(({ name }) => errors.add(name));
  }
  return { read, live: live.size, errors: [...errors] };
}

/** A worker whose messages are given: it opens a model, fails, and then answers once more. */
async function failedWorker(file) {
  const said = [];
  class GivenWorker extends EventTarget {
    postMessage({ number, method }) {
      said.push(method);
      const answer = { file, config: { sampling: {} }, card: {}, hasWrite: false, learned: {} };
      if (method === "load") this.say("message", { data: { number, answer } });
      this.last = number;
    }
    terminate() {
      said.push("terminated");
    }
    say(type, values) {
      queueMicrotask(() => this.dispatchEvent(Object.assign(new Event(type), values)));
    }
  }
  const worker = new GivenWorker();
  globalThis.fetch = () => new Promise(() => {}); // The wasm does not come.
  const model = await KerasSeqWorker.load("https://example.org/a.tflite", { worker, wasm: "https://example.org/wasm" });
  const score = model.score("a").catch(({ message }) => message);
  await Promise.resolve();
  worker.say("error", { message: "boom" });
  const failures = [await score];
  worker.dispatchEvent(Object.assign(new Event("message"), { data: { number: worker.last, answer: [] } }));
  failures.push(await model.score("a").catch(({ message }) => message));
  return { said, failures, inNode: await KerasSeqWorker.load("a.tflite").catch(({ message }) => message) };
}

/** Files as browsers give them: one that is too large to be read, and a folder. */
const unreadable = [
  Object.defineProperty(new File([], "huge.tflite"), "size", { value: 3 * 2 ** 30 }),
  Object.assign(new File([], "folder"), { arrayBuffer: () => Promise.reject(new DOMException("gone", "NotReadableError")) }),
];

function untilStop(texts, stops) {
  const filter = new StopFilter(stops);
  const given = [];
  for (const text of texts) {
    given.push(...filter.add({ text }));
    if (filter.found) break;
  }
  if (!filter.found) given.push(...filter.rest());
  return [given.map(({ text }) => text), filter.found];
}

const tasks = {
  random: (pairs) =>
    pairs.map(([seed, position]) => [
      threefry(BigInt(seed), position).toString(16).padStart(8, "0"),
      uniforms(BigInt(seed), position, 1)[0],
    ]),
  integerDraws: (cases) =>
    cases.map(([scale, settings, logits, uniforms]) => {
      const draw = new IntegerDraw(logitStep(scale), settings);
      return [logitStep(scale), integerSettings(settings), uniforms.map((uniform24) => draw.next(Int16Array.from(logits), uniform24))];
    }),
  integerCosts: (cases) =>
    cases.map(([step, logits, groups]) => [
      [...costs(Int16Array.from(logits), step).each],
      groups.map((group) => costs(Int16Array.from(logits), step, group).group),
    ]),
  integerBiases: (cases) =>
    cases.map(([logits, bias, scale]) => [...addBias(Int16Array.from(logits), bias.map((it) => it ?? -Infinity), scale)]),
  forbidden: (scale) => [valueOrError(() => new IntegerDraw(1).next([-32768], 0)), valueOrError(() => logitStep(scale))],
  words: (texts) => texts.map(splitWords),
  encode: ([file, texts]) => {
    const vocabulary = new Vocabulary(file);
    return texts.map((text) => {
      const ids = vocabulary.encode(text);
      return [ids, vocabulary.decode(ids)];
    });
  },
  vocabularies: (cases) =>
    cases.map(([file, texts, refused, continuations]) => {
      const vocabulary = new Vocabulary(file);
      return [
        vocabulary.level,
        texts.map((text) => vocabulary.encode(text)),
        refused.map((text) => valueOrError(() => vocabulary.encode(text))),
        continuations.map(([before, ids]) => vocabulary.decode(ids, before)),
      ];
    }),
  unknown: ([file, texts]) => {
    const vocabulary = new Vocabulary(file);
    const found = ({ start, end, text: part }, text) => [start, end, part, text.slice(start, end)];
    return texts.map((text) => vocabulary.unknown(text).map((one) => found(one, text)));
  },
  nextTokens: ([file, logits, before, count]) => nextTokens(Float32Array.from(logits), new Vocabulary(file), before, count),
  blobs: () => Promise.all(unreadable.map((blob) => bytesOf(blob).catch(({ message }) => message))),
  files: (files) => files.map((file) => valueOrError(() => new Vocabulary(file).tokens.length)),
  stops: (cases) => cases.map(([texts, stops]) => untilStop(texts, stops)),
  options: (cases) => cases.map((options) => valueOrError(() => writeOptions(options, {}).stops.length)),
  suggest: (cases) =>
    Promise.all(
      cases.map(async ([file, rows, text, count, written = ""]) => {
        const vocabulary = new Vocabulary(file);
        const own = new OwnWords();
        own.learn(written);
        return suggestions(vocabulary, text, count, tableModel(vocabulary, rows), own);
      }),
    ),
  abortedSuggestions,
  failedWorker,
  unread: (file) => {
    const model = { vocabulary: new Vocabulary(file), learning: {}, config: { sampling: {} }, release() {} };
    return new TextModel(model).suggest("?").catch(({ message }) => message);
  },
  writing: (cases) => Promise.all(cases.map(writing)),
  bundles: (paths) =>
    Promise.all(
      paths.map(async (path) => {
        try {
          return (await readBundle(new Uint8Array(readFileSync(path)))).vocabulary.tokens.length;
        } catch (error) {
          return error.message;
        }
      }),
    ),
};
const [task, given] = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await tasks[task](given)));
