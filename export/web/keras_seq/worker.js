// A language model in a worker, so that a page never waits for it. The worker runs the model; the text is handled here.

import { TextModel } from "./text_model.js";
import { Vocabulary } from "./vocabulary.js";
import { here, wasmFolder } from "./wasm_folder.js";

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
    worker.addEventListener("error", ({ message }) => this.#fail(`The worker of the model failed: ${message || "its script cannot be loaded"}`));
  }

  async load(source, folder) {
    const { file, config, card, hasWrite } = await this.#call("load", [source, folder]);
    Object.assign(this, { vocabulary: new Vocabulary(file), config, card, hasWrite });
  }

  initialStates() {
    return this.#call("initialStates");
  }

  release(...groups) {
    const states = groups.filter((one) => one !== null && one !== undefined);
    if (states.length && !this.isClosed) this.#worker.postMessage({ method: "release", given: states });
  }

  async read(tokens, states, signal) {
    const reading = this.#call("read", [tokens, states]);
    const number = this.#calls;
    const abort = () => this.#worker.postMessage({ method: "abort", given: [number] });
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) abort();
    try {
      return await reading;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  decode(...given) {
    return this.#call("decode", given);
  }

  sample(...given) {
    return this.#call("sample", given);
  }

  write(...given) {
    return this.#call("write", given);
  }

  score(ids) {
    return this.#call("score", [ids]);
  }

  /** Ends the worker, and with it what it is doing. */
  async close() {
    this.isClosed = true;
    this.#fail("The model was closed.");
  }

  #call(method, given = []) {
    if (this.#failure) return Promise.reject(this.#failure);
    const number = ++this.#calls;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#worker.postMessage({ number, method, given });
    });
  }

  #settle({ number, answer, error }) {
    const call = this.#waiting.get(number); // none if it was refused because the worker failed
    this.#waiting.delete(number);
    if (error === undefined) call?.resolve(answer);
    else call?.reject(new Error(error));
  }

  #fail(message) {
    this.#failure ??= new Error(message);
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
    this.#worker.terminate();
  }
}

/** A model in a module worker, with the methods of `KerasSeq`. */
export class KerasSeqWorker extends TextModel {
  /**
   * Opens a .tflite of `keras-seq export`, given by its address or its bytes. `worker` is a new worker with the script
   * keras_seq/worker_thread; a bundler that does not know `new Worker(new URL(..))` needs it.
   */
  static async load(source, { wasm, worker } = {}) {
    if (!worker && !globalThis.Worker) throw new Error("KerasSeqWorker runs in browsers only: in Node, use KerasSeq.");
    const thread = worker ?? new Worker(new URL("./worker_thread.js", import.meta.url), { type: "module" });
    const model = new RemoteModel(thread);
    try {
      // Addresses are relative to the page, not to the script of the worker.
      const isAddress = typeof source === "string" || source instanceof URL;
      await model.load(isAddress ? new URL(source, here()).href : source, wasmFolder(wasm));
    } catch (error) {
      model.close();
      throw error;
    }
    return new KerasSeqWorker(model);
  }
}
