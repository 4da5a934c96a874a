// A visit: which model is opened, and which text is there first.

import { chipText } from "./card.js";
import { Document } from "./document.js";
import { at, attempt, showError, showStatus } from "./elements.js";
import { keepForLater } from "./offline.js";
import { listedModels, modelAt } from "./opening.js";
import { endOfOpening, OPENING, promptsFor, showPrompts } from "./prompts.js";
import { forgetModel, saved, savedModel, saveModel } from "./saved.js";
import { otherModel, readLink } from "./share.js";
import { wasmFolder } from "../keras_seq/wasm.js";

const SHAKESPEARE = "shakespeare.tflite"; // the page's own model

export class Visit {
  onOpened = () => {}; // is called when another model is open
  #editor;
  #desk;
  #settings;
  #models;
  #own = null; // the model that the page opens by itself
  #hasTyped = false; // The page writes nothing by itself once the user has typed.

  constructor({ editor, desk, settings, models }) {
    [this.#editor, this.#desk, this.#settings, this.#models] = [editor, desk, settings, models];
    at("text").addEventListener("input", () => (this.#hasTyped = true), { once: true });
    addEventListener("hashchange", () => attempt(() => this.#followLink(this.#takeLink())));
  }

  /** Shows the text of the last visit or of a link, opens the model, and writes the first lines if there is no text. */
  async start(before = saved()) {
    const document = Document.from(before?.document);
    if (document) {
      this.#editor.load(document);
      this.#desk.restore(before.desk);
    }
    const link = await attempt(() => this.#takeLink());
    const isFirst = !document && !link;
    const isOpen = await this.#openFirst(isFirst);
    if (!isOpen) return;
    if (link) await this.#followLink(link);
    else if (isFirst && !this.#hasTyped) await this.#writeOpening();
    const { source } = this.#models;
    await keepForLater(wasmFolder(), typeof source === "string" ? [source] : []).catch(() => {}); // Off-line use is not vital.
  }

  /** Opens a file of the user, which the browser keeps for the next visit. */
  async openFile(file) {
    if (!(await this.#open({ name: file.name, source: file }))) return;
    if (!(await saveModel(file.name, file))) showStatus("The browser cannot keep this file for the next visit.");
  }

  /** Opens the page's own model again. */
  async openOwn() {
    await forgetModel();
    await this.#open(this.#own);
  }

  /** Whether the page has a model of its own, which is not open. */
  get canOpenOwn() {
    return this.#own !== null && this.#models.source !== this.#own.source;
  }

  /** Opens the model of the address, the user's file of the last visit, or the page's own. A first visit begins at once. */
  async #openFirst(isFirst) {
    const asked = new URLSearchParams(location.search).get("model");
    return attempt(async () => {
      const listing = listedModels();
      listing.then(({ compare }) => (at("compare").hidden = compare.length < 2), () => {}); // An error is shown below.
      let found = asked ? modelAt(asked) : await savedModel();
      if (!asked) this.#own = (await listing).open;
      found ??= this.#own;
      const isShakespeare = found !== null && found === this.#own && found.name === SHAKESPEARE;
      if (isFirst && isShakespeare && !this.#hasTyped) this.#editor.load(Document.from({ text: OPENING.prompt, written: [] }));
      if (found) return this.#open(found);
      throw new Error("This page has no model of its own. Open a .tflite file that keras-seq export has made.");
    });
  }

  async #open(found) {
    const models = this.#models;
    const isOpen = await models.open(found, async (model) => {
      const before = saved();
      const isSame = before?.model === model.config.model_sha256;
      await this.#desk.use(model, { isSame });
      this.#settings.fill({ sampling: model.defaults });
      if (isSame) this.#settings.fill(before.settings);
    });
    if (!isOpen) return false;
    showError(null);
    const { model, name } = models;
    at("model").textContent = chipText(model.card, name);
    at("max_unit").textContent = `Maximum length in ${model.vocabulary.level === "char" ? "characters" : "words and signs"}`;
    this.onOpened();
    const show = (prompts) => showPrompts(at("prompts"), prompts, (one) => this.#begin(one));
    promptsFor(model, this.#isShakespeare()).then(show).catch(showError);
    return true;
  }

  #isShakespeare() {
    const { name, source } = this.#models;
    return name === SHAKESPEARE && source === this.#own?.source;
  }

  /** Begins a new text with a prompt. */
  #begin(prompt) {
    return attempt(async () => {
      await this.#desk.giveUp();
      const group = this.#desk.group();
      this.#editor.replace(0, this.#editor.text.length, prompt, { group });
      await this.#desk.write({ group });
    });
  }

  async #writeOpening() {
    const isLines = this.#models.model.config.by_line === true;
    const isLast = endOfOpening();
    const keepsSeed = this.#isShakespeare();
    if (keepsSeed) this.#settings.fill({ seed: OPENING.seed });
    for (let line = 0; line < (isLines ? 3 : 1); line++) await this.#desk.write({ isLast, keepsSeed });
    if (this.#editor.text) showStatus("Written on your device. Touch any of it, or type on.");
  }

  /** Takes the beginning of a link; returns the link, or null if the address is none. */
  #takeLink() {
    const link = readLink(location.hash);
    if (!link) return null;
    history.replaceState(null, "", location.href.replace(/#.*$/, "")); // A reload shows what the text has become.
    this.#editor.replace(0, this.#editor.text.length, link.prompt);
    return link;
  }

  /** Writes what the sender of a link saw. */
  async #followLink(link) {
    if (!link || !this.#models.model) return;
    await this.#desk.giveUp();
    this.#settings.fill({ sampling: link.settings, seed: link.seed });
    await this.#desk.write({ keepsSeed: true, maxTokens: link.maxTokens });
    const { name, model } = this.#models;
    const other = otherModel(link.model, { name, sha256: model.config.model_sha256 });
    if (other) showError(new Error(other));
  }
}
