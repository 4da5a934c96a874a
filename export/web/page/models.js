// Opens models, one at a time, in a worker each.

import { KerasSeqWorker } from "../keras_seq/worker.js";

/** What is known of the open model. `source` is an address or a Blob. */
export class Models extends EventTarget {
  model = null;
  name = "";
  source = null;
  bytes = 0; // the size of the file
  #requests = 0; // models requested so far
  #opened = 0; // the number of the request whose model is open: no earlier one is opened after it
  #loading = 0; // requests that are not done

  /**
   * Opens a model, and closes the one before after `use` has been called with the new one. Events: "loading" with the name, "progress"
   * with the loaded part, from 0 to 1, "done" when nothing is loading any more. Returns false if a model that was requested later is
   * open already; an error names the file.
   */
  async open({ name, source }, use) {
    const number = ++this.#requests;
    this.#loading += 1;
    this.#tell("loading", name);
    try {
      const opened = await this.#load(number, name, source);
      if (number < this.#opened) return opened?.close(), false;
      this.#opened = number;
      const before = this.model;
      const isFile = source instanceof Blob;
      Object.assign(this, { model: opened, name, source, bytes: isFile ? source.size : opened.config.model_bytes });
      if (!isFile) this.#askSize(source).catch(() => {}); // off-line: that of the file without its card and vocabulary stays
      await use(opened);
      before?.close();
      return true;
    } finally {
      this.#loading -= 1;
      if (!this.isLoading) this.#tell("done");
    }
  }

  get isLoading() {
    return this.#loading > 0;
  }

  /** Returns a model; null if it cannot be loaded and is no longer wanted. */
  async #load(number, name, source) {
    const progress = (loaded, total) => total > 0 && this.#tell("progress", loaded / total);
    try {
      return await KerasSeqWorker.load(source, { progress });
    } catch (error) {
      if (number < this.#opened) return null;
      throw new Error(error.message.includes(name) ? error.message : `${name} was not opened: ${error.message}`, { cause: error });
    }
  }

  /** Asks for the size of the file at an address. */
  async #askSize(source) {
    const { ok, headers } = await fetch(source, { method: "HEAD" });
    const size = Number(headers.get("Content-Length"));
    if (ok && size > 0 && !headers.has("Content-Encoding") && source === this.source) this.bytes = size;
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
