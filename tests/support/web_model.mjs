// What tests/export/web/test_package.py asks of a model, in Node and in a page: JSON in, JSON out.

async function read(writer, pieces = []) {
  for await (const piece of writer) pieces.push(piece);
  return pieces;
}

const textOf = (pieces) => pieces.map(({ text }) => text).join("");

/** JSON has no 64-bit integers. */
const withSeed = ({ seed, ...options }) => (seed === undefined ? options : { ...options, seed: BigInt(seed) });

async function errorOf(promise) {
  try {
    return await promise;
  } catch (error) {
    return error.message;
  }
}

const inBase64 = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
const fromBase64 = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

/** What a step of a task can be; `save` and `load` have files in base64. */
const steps = {
  write: async (model, prompt, options) => textOf(await read(model.write(prompt, withSeed(options)))),
  suggest: (model, text, count) => model.suggest(text, count),
  nextTokens: (model, text, count) => model.nextTokens(text, count),
  score: async (model, text) => (await model.score(text)).logProbability,
  learn: (model, text, options) => model.learn(text, options),
  save: async (model) => inBase64(await model.saveLearned()),
  load: (model, file) => model.loadLearned(fromBase64(file)),
  loadOther: (model, value) => model.loadLearned(value),
  loadPromise: (model) => model.loadLearned(Promise.resolve()),
  forget: (model) => model.forget(),
  learned: (model) => [model.hasLearn, model.learnedTokens],
};

export const tasks = {
  /** Takes steps one after the other; returns the answer or the error of each. */
  async steps(model, all) {
    const answers = [];
    for (const [name, ...given] of all) answers.push(await errorOf(steps[name](model, ...given)));
    return answers;
  },

  /** Takes steps at the same time. */
  stepsAtOnce: (model, all) => Promise.all(all.map(([name, ...given]) => errorOf(steps[name](model, ...given)))),

  /** Begins texts, takes a step after so many of the pieces of each, and goes on; returns how they ended. */
  async overtaken(model, [prompt, options, step, counts]) {
    const ends = [];
    for (const count of counts) {
      const writer = model.write(prompt, withSeed(options));
      const pieces = [];
      while (pieces.length < count) pieces.push((await writer.next()).value);
      const answer = await errorOf(steps[step[0]](model, ...step.slice(1)));
      const end = await errorOf(read(writer, pieces));
      ends.push([textOf(pieces), typeof end === "string" ? end : writer.finishReason, typeof answer === "string" ? answer : null]);
    }
    return ends;
  },

  /** Returns for how long the page did not react at most while the model's worker read a text, as a fraction of that time. */
  async blocked(model, [method, text]) {
    let longest = 0, last = performance.now();
    const start = last;
    const timer = setInterval(() => {
      longest = Math.max(longest, performance.now() - last);
      last = performance.now();
    }, 5);
    await model[method](text);
    clearInterval(timer);
    return longest / (performance.now() - start);
  },

  /** Closes the model while it learns. */
  async closedWhileLearning(model, text) {
    const learning = errorOf(model.learn(text));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await model.close();
    return [await learning, await errorOf(model.learn(text))];
  },

  async texts(model, cases) {
    const texts = [];
    for (const [prompt, options] of cases) {
      const writer = model.write(prompt, withSeed(options));
      texts.push([textOf(await read(writer)), writer.finishReason, String(writer.seed)]);
    }
    return texts;
  },

  async pieces(model, [prompt, options]) {
    return (await read(model.write(prompt, withSeed(options)))).map((it) => [it.text, it.tokenId, it.logProbability]);
  },

  /** Returns the text before an error, and the error. */
  async failing(model, [prompt, options]) {
    const pieces = [];
    const message = await errorOf(read(model.write(prompt, withSeed(options)), pieces));
    return [textOf(pieces), message];
  },

  /** `changes` are settings by the number of pieces after which they hold. */
  async changes(model, [prompt, options, changes]) {
    const writer = model.write(prompt, withSeed(options));
    const pieces = [];
    for await (const piece of writer) {
      pieces.push(piece.text);
      if (changes[pieces.length]) writer.change(changes[pieces.length]);
    }
    return pieces;
  },

  async atOnce(model, cases) {
    return Promise.all(cases.map(async ([prompt, options]) => textOf(await read(model.write(prompt, withSeed(options))))));
  },

  suggest: (model, cases) => Promise.all(cases.map(([text, count]) => model.suggest(text, count))),

  nextTokens: (model, cases) => Promise.all(cases.map(([text, count]) => model.nextTokens(text, count))),

  trace: async (model, text) =>
    (await model.trace(text)).map(({ logProbabilities, updateGates, ...one }) => ({
      ...one,
      logProbabilities: [...logProbabilities],
      updateGates: updateGates && updateGates.map((gates) => [...gates]),
    })),

  /** Calls that are refused, and calls that are aborted before and during their work. */
  async refused(model, text) {
    const before = AbortSignal.abort(new Error("before"));
    const during = new AbortController();
    const calls = [model.suggest(text, 0), model.nextTokens(text, 101), model.trace(text.repeat(1001))];
    calls.push(model.suggest(text, 3, { signal: before }), model.nextTokens(text, 3, { signal: before }));
    calls.push(model.suggest(text.repeat(5000), 3, { signal: during.signal }));
    setTimeout(() => during.abort(new Error("during")), 20);
    return Promise.all(calls.map(errorOf));
  },

  score: (model, text) => model.score(text),

  codes: (model, text) => [model.encode(text), model.decode(model.encode(text))],

  /** Ends texts in the ways in which a host can. */
  async stopped(model, prompt) {
    const before = new AbortController();
    before.abort();
    const none = model.write(prompt, { signal: before.signal });
    const during = new AbortController();
    const aborted = model.write(prompt, { signal: during.signal, max_tokens: 500, top_k: 3 });
    const left = model.write(prompt, { max_tokens: 500, top_k: 3 });
    const unread = model.write(prompt);
    const reading = new AbortController();
    const long = model.write(prompt.repeat(5000), { signal: reading.signal });
    setTimeout(() => reading.abort(), 20);
    const counts = [(await read(none)).length];
    counts.push(0);
    for await (const _ of aborted) if (++counts[1] === 40) during.abort();
    counts.push(0);
    for await (const _ of left) if (++counts[2] === 40) break;
    await unread.return();
    counts.push((await read(unread)).length, (await read(long)).length);
    return [counts, [none, aborted, left, unread, long].map(({ finishReason }) => finishReason)];
  },

  /** Closes the model while it writes one text and has paused another. */
  async closed(model, prompt) {
    const endless = { max_tokens: 100_000, top_k: 3 }; // `<eos>` is not among the three likeliest tokens
    const paused = model.write(prompt, endless);
    await paused.next();
    const writer = model.write(prompt, endless);
    const pieces = [];
    const reading = errorOf(read(writer, pieces));
    while (pieces.length < 100) await new Promise((resolve) => setTimeout(resolve));
    await model.close();
    const ended = await errorOf(paused.next()); // even if it has tokens that were drawn before
    const tokens = model.encode(prompt); // needs no model
    const later = [model.suggest(prompt), model.score(prompt), read(model.write(prompt))].map(errorOf);
    return [await reading, ended, ...(await Promise.all(later)), tokens.length];
  },
};
