// Opens models, one at a time, in a worker each.

import { KerasSeqWorker } from "../keras_seq/worker.js";

/** What is known of the open model. `source` is an address or a Blob. */
export class Models extends EventTarget {
  model = null;
  name = "";
  source = null;
  #requests = 0; // models requested so far: only the last one is opened, whichever is ready first

  /**
   * Opens a model, and closes the one before after `use` has been called with the new one. Events: "loading" with the name, "progress"
   * with the loaded part, from 0 to 1, "done". Returns whether it is the open one now; an error names the file.
   */
  async open({ name, source }, use) {
    const number = ++this.#requests;
    this.#tell("loading", name);
    const progress = (loaded, total) => total > 0 && this.#tell("progress", loaded / total);
    let opened;
    try {
      opened = await KerasSeqWorker.load(source, { progress });
    } catch (error) {
      if (number !== this.#requests) return false;
      this.#tell("done");
      throw new Error(error.message.includes(name) ? error.message : `${name} was not opened: ${error.message}`, { cause: error });
    }
    if (number !== this.#requests) return opened.close(), false;
    const before = this.model;
    Object.assign(this, { model: opened, name, source });
    await use(opened);
    before?.close();
    this.#tell("done");
    return true;
  }

  /** What the model is called. */
  get title() {
    const { name } = this.model.card;
    return typeof name === "string" && name ? name : this.name.replace(/\.tflite$/i, "");
  }

  /** Returns the size of the file in bytes. */
  async bytes() {
    if (this.source instanceof Blob) return this.source.size;
    try {
      return (await (await fetch(this.source)).blob()).size;
    } catch {
      return this.model.config.model_bytes; // off-line: the file without its card and vocabulary
    }
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
