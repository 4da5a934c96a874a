// A language model in a worker, so that a page never waits for it.

import { learnedBytes } from "./options.js";
import { TextModel } from "./text_model.js";
import { Vocabulary } from "./vocabulary.js";
import { compiledWasm, here, wasmFolder } from "./wasm.js";

/** A Model in a worker. States are numbers, which stand for the states in the worker. */
class RemoteModel {
  #worker;
  #waiting = new Map(); // for the answers to the calls, by their numbers
  #calls = 0;
  #failure = null;

  constructor(worker) {
    this.#worker = worker;
    this.isClosed = false;
    worker.addEventListener("message", ({ data }) => this.#settle(data));
    worker.addEventListener("error", ({ message }) => {
      this.#fail(`The worker of the model failed: ${message || "its script cannot be loaded"}`);
    });
  }

  /** Opens a file. Its loading, that of the worker's scripts and that of the wasm take place at the same time. */
  async load(source, folder, progress) {
    compiledWasm(folder, progress).then(
      (wasm) => this.#order("wasm", [wasm]),
      ({ message }) => this.#fail(message),
    );
    const { file, ...known } = await this.call("load", [source, folder]);
    Object.assign(this, { vocabulary: new Vocabulary(file), ...known });
  }

  release(...groups) {
    const states = groups.filter((one) => one !== null && one !== undefined);
    if (states.length) this.#order("release", states);
  }

  begin(prompt, signal) {
    return this.call("begin", [prompt], signal);
  }

  decode(...values) {
    return this.call("decode", values);
  }

  sample(...values) {
    return this.call("sample", values);
  }

  write(...values) {
    return this.call("write", values);
  }

  /** Calls what changes what was learned; notes what `learning` is then. */
  async change(method, ...values) {
    const { answer, learning } = await this.call(method, values);
    this.learning = learning;
    return answer;
  }

  /** Ends the worker, and with it what it is doing. */
  async close() {
    this.isClosed = true;
    this.#fail("The model was closed.");
  }

  /** Returns the answer of the worker. If the signal is aborted, this rejects at once, and the worker stops soon. */
  async call(method, values, signal) {
    signal?.throwIfAborted();
    if (this.#failure) throw this.#failure;
    const number = ++this.#calls;
    this.#worker.postMessage({ number, method, values });
    let abort;
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      abort = () => {
        this.#order("abort", [number]);
        this.#waiting.set(number, { resolve: (late) => this.release(late.states), reject() {} });
        reject(signal.reason);
      };
    });
    signal?.addEventListener("abort", abort);
    try {
      return await answer;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  #order(method, values) {
    if (!this.#failure) this.#worker.postMessage({ method, values });
  }

  #settle({ number, answer, error, name }) {
    const call = this.#waiting.get(number); // none if it was refused because the worker failed
    this.#waiting.delete(number);
    if (error !== undefined) call?.reject(errorNamed(name, error));
    else call?.resolve(answer);
  }

  #fail(message) {
    this.#failure ??= new Error(message);
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#worker.terminate();
  }
}

/** Returns an error that was raised in the worker. */
function errorNamed(name, message) {
  const Kind = { RangeError, TypeError }[name] ?? Error;
  return new Kind(message);
}

/** A model in a module worker, with the methods of `KerasSeq`. The worker answers whole calls; a writer asks it for its tokens. */
export class KerasSeqWorker extends TextModel {
  #model;

  /**
   * Opens a .tflite of `keras-seq export`, given by its address or its bytes. `worker` is a new worker with the script
   * keras_seq/worker_thread; a bundler that does not know `new Worker(new URL(..))` needs it. `progress(loaded, total)` is called
   * while the wasm of LiteRT.js loads.
   */
  static async load(source, { wasm, worker, progress } = {}) {
    if (!worker && !globalThis.Worker) throw new Error("KerasSeqWorker runs in browsers only: in Node, use KerasSeq.");
    const thread = worker ?? new Worker(new URL("./worker_thread.js", import.meta.url), { type: "module" });
    const model = new RemoteModel(thread);
    try {
      // Addresses are relative to the page, not to the script of the worker.
      const isAddress = typeof source === "string" || source instanceof URL;
      await model.load(isAddress ? new URL(source, here()).href : source, wasmFolder(wasm), progress);
    } catch (error) {
      model.close();
      throw error;
    }
    return new KerasSeqWorker(model);
  }

  constructor(model) {
    super(model);
    this.#model = model;
  }

  suggest(text, count, options) {
    return this.#model.call("suggest", [text, count], options?.signal);
  }

  nextTokens(text, count, options) {
    return this.#model.call("nextTokens", [text, count], options?.signal);
  }

  score(text) {
    return this.#model.call("score", [text]);
  }

  trace(text) {
    return this.#model.call("trace", [text]);
  }

  learn(text, options) {
    return this.#model.change("learn", text, options);
  }

  saveLearned() {
    return this.#model.call("saveLearned", []);
  }

  async loadLearned(bytes) {
    return this.#model.change("loadLearned", learnedBytes(bytes));
  }

  forget() {
    return this.#model.change("forget");
  }
}
