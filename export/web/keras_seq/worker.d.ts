import { LoadOptions, Source, TextModel } from "./keras_seq.js";

export interface WorkerOptions extends LoadOptions {
  /** A new module worker with the script keras_seq/worker_thread, for bundlers that do not find it by themselves. */
  worker?: WorkerThread;
  /** Is called while the wasm of LiteRT.js loads, with bytes; `total` is 0 if the server does not say it. */
  progress?: (loaded: number, total: number) => void;
}

/** What is used of a `Worker`. */
export interface WorkerThread {
  addEventListener(type: string, listener: (event: any) => void): void;
  postMessage(message: any): void;
  terminate(): void;
}

/**
 * A model in a module worker, so that the page never waits for it. It has the methods of `KerasSeq`. In browsers only. The worker
 * answers whole calls: an abort rejects a call at once, and the worker stops soon after it.
 */
export declare class KerasSeqWorker extends TextModel {
  static load(source: Source, options?: WorkerOptions): Promise<KerasSeqWorker>;
}
