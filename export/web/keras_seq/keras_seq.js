// A language model of keras_seq in a browser or in Node: writes, suggests and scores text.

import { loadFrom } from "./litert.js";
import { Model } from "./model.js";
import { bytesOf } from "./source.js";
import { TextModel } from "./text_model.js";
import { wasmFolder } from "./wasm.js";

/** Loads LiteRT.js before a model is opened, which takes less time then. `wasm` is the folder of its wasm. */
export async function loadRuntime(wasm) {
  await loadFrom(wasmFolder(wasm));
}

/** A model in this thread. `KerasSeqWorker` has the same methods and runs in a worker. */
export class KerasSeq extends TextModel {
  /** Opens a .tflite of `keras-seq export`, given by its address or its bytes. */
  static async load(source, { wasm } = {}) {
    return new KerasSeq(await Model.load(bytesOf(source), loadRuntime(wasm)));
  }
}
