// A visit: which model is opened, and which text is there first.

import { chipText } from "./card.js";
import { Document } from "./document.js";
import { at, attempt, showError, showStatus } from "./elements.js";
import { keepForLater } from "./offline.js";
import { listedModels, modelAt } from "./opening.js";
import { endOfOpening, OPENING, promptsFor, showPrompts } from "./prompts.js";
import { forgetModel, savedModel, saveModel } from "./saved.js";
import { otherModel, readLink } from "./share.js";
import { wasmFolder } from "../keras_seq/wasm.js";

const SHAKESPEARE = new URL("models/own/shakespeare.tflite", location.href).href; // the page's own model
const TEMPERATURE = 0.7; // for a file that stores none: the text reads better than at 1

export class Visit {
  onOpened = () => {}; // is called when another model is open
  #editor;
  #desk;
  #settings;
  #models;
  #learner;
  #own = null; // the model that the page opens by itself
  #hasActed = false; // The page writes nothing by itself once the user has typed, opened a file, or followed a link.
  #known = {}; // the SHA-256 of the model of the text, `model`, and `settings` of the last visit
  #link = null; // is followed when a model is open
  #prompts = null; // a promise of the beginnings that the open model offers

  constructor({ editor, desk, settings, models, learner }) {
    [this.#editor, this.#desk, this.#settings, this.#models, this.#learner] = [editor, desk, settings, models, learner];
    at("text").addEventListener("input", () => (this.#hasActed = true), { once: true });
    addEventListener("hashchange", () => {
      this.#hasActed = true;
      attempt(() => (this.#takeLink(), this.#followLink()));
    });
    models.addEventListener("done", () => this.#followLink().catch(showError));
  }

  /** Shows the text of the last visit or of a link, opens the model, and writes the first lines if there is no text. */
  async start(before) {
    this.#known = { model: before?.model, settings: before?.settings };
    const document = Document.from(before?.document);
    if (document) {
      this.#editor.load(document);
      this.#desk.restore(before.desk);
    }
    const damage = this.#damageOfLink();
    const isFirst = !document && !this.#link && !damage;
    const isOpen = await this.#openFirst(isFirst);
    if (!isOpen) return;
    if (damage) showError(damage);
    if (isFirst && !this.#hasActed) await this.#writeOpening();
    const { source } = this.#models;
    await keepForLater(wasmFolder(), typeof source === "string" ? [source] : []).catch(() => {}); // Off-line use is not vital.
  }

  /** The user has begun to write: the page writes nothing by itself any more. */
  userHasActed() {
    this.#hasActed = true;
  }

  /** Opens a file of the user, which the browser keeps for the next visit. */
  async openFile(file) {
    this.#hasActed = true;
    if (!(await this.#open({ name: file.name, source: file }))) return;
    forgetAskedModel();
    if (!(await saveModel(file.name, file))) showStatus("The browser cannot keep this file for the next visit.");
  }

  /** Opens the page's own model again. */
  async openOwn() {
    this.#hasActed = true;
    await forgetModel();
    if (await this.#open(this.#own)) forgetAskedModel();
  }

  /** Whether the page has a model of its own, which is not open. */
  get canOpenOwn() {
    return this.#own !== null && this.#models.source !== this.#own.source;
  }

  /** Opens the model of the address, the user's file of the last visit, or the page's own. A first visit begins at once. */
  async #openFirst(isFirst) {
    const asked = new URLSearchParams(location.search).get("model");
    return attempt(async () => {
      const listing = listedModels().catch((error) => ({ open: null, compare: [], error }));
      const kept = asked ? null : await savedModel();
      const { open, compare, error } = await listing;
      if (error && !asked && !kept) throw error;
      this.#own = open;
      at("compare").hidden = compare.length < 2;
      const found = asked ? modelAt(asked) : (kept ?? open);
      const writesOpening = isFirst && found?.source === SHAKESPEARE && !this.#hasActed;
      if (writesOpening) this.#editor.load(Document.from({ text: OPENING.prompt, written: [] }));
      if (found) return this.#open(found);
      throw new Error("This page has no model of its own. Open a .tflite file that keras-seq export has made.");
    });
  }

  async #open(found) {
    const models = this.#models;
    if (!(await models.open(found, (model) => this.#use(model)))) return false;
    const { model, name } = models;
    at("model").textContent = chipText(model.card, name);
    at("max_unit").textContent = `Maximum length in ${model.vocabulary.level === "char" ? "characters" : "words and signs"}`;
    this.onOpened();
    this.#prompts = promptsFor(model, this.#isShakespeare);
    this.#prompts.then((prompts) => showPrompts(at("prompts"), prompts, (one) => this.#begin(one))).catch(showError);
    return true;
  }

  /** Uses a model. That of the text keeps its settings, whether it was open in this tab or in the last visit. */
  async #use(model) {
    const { model_sha256: sha256 } = model.config;
    const isSame = sha256 === this.#known.model;
    const kept = isSame ? (this.#known.settings ?? this.#settings.state()) : null;
    this.#known = { model: sha256 };
    await this.#learner.use(model).catch(showError);
    await this.#desk.use(model, { isSame });
    this.#settings.fill({ sampling: { ...model.defaults, temperature: model.config.sampling.temperature ?? TEMPERATURE } });
    if (kept) this.#settings.fill(kept);
  }

  get #isShakespeare() {
    return this.#models.source === SHAKESPEARE;
  }

  /** Begins a new text with a prompt. */
  #begin(prompt) {
    this.#hasActed = true;
    return attempt(async () => {
      await this.#desk.giveUp();
      if (this.#desk.isWriting) return; // Another tap was faster.
      const group = this.#desk.group();
      this.#editor.replace(0, this.#editor.text.length, prompt, { group });
      await this.#desk.write({ group });
    });
  }

  async #writeOpening() {
    const isLines = this.#models.model.config.by_line === true;
    const isLast = endOfOpening();
    const keepsSeed = this.#isShakespeare;
    if (keepsSeed) this.#settings.fill({ seed: OPENING.seed });
    else if (!isLines) await this.#beginWithPrompt();
    if (this.#hasActed) return;
    for (let line = 0; line < (isLines ? 3 : 1); line++) {
      const reason = await this.#desk.write({ isLast, keepsSeed });
      if (reason !== "eos") break; // The user has stopped it, or the lines are long enough.
    }
    if (this.#hasActed) return;
    if (this.#editor.text) showStatus("Written on your device. Touch any of it, or type on.");
  }

  async #beginWithPrompt() {
    const [prompt = ""] = await this.#prompts;
    if (!this.#hasActed) this.#editor.load(Document.from({ text: prompt, written: [] }));
  }

  /** Takes the link of the address, if it is one; returns the error of a damaged one, or null. */
  #damageOfLink() {
    try {
      this.#takeLink();
      return null;
    } catch (error) {
      return error;
    }
  }

  /** Takes the link of the address, if it is one, and shows its beginning. */
  #takeLink() {
    const link = readLink(location.hash);
    if (!link) return;
    history.replaceState(null, "", location.href.replace(/#.*$/, "")); // A reload shows what the text has become.
    this.#editor.replace(0, this.#editor.text.length, link.prompt);
    this.#link = link;
  }

  /** Writes what the sender of a link saw, unless a model is still loading. */
  async #followLink() {
    const link = this.#link;
    if (!link || !this.#models.model || this.#models.isLoading) return;
    this.#link = null;
    do await this.#desk.giveUp();
    while (this.#desk.isWriting); // A tap was faster.
    this.#settings.fill({ sampling: link.settings, seed: link.seed });
    const isWhole = link.maxTokens === 0; // All of the text is its beginning.
    if (!isWhole) await this.#desk.write({ keepsSeed: true, maxTokens: link.maxTokens });
    const { name, model } = this.#models;
    const hasLearned = !isWhole && model.learnedTokens > 0;
    const other = otherModel(link.model, { name, sha256: model.config.model_sha256, hasLearned });
    if (other) showError(new Error(other));
  }
}

/** Removes `?model=` from the address once another model is open: a reload or a shared link would ask for it again. */
function forgetAskedModel() {
  const address = new URL(location.href);
  address.searchParams.delete("model");
  history.replaceState(null, "", address);
}
