// What the user sees of learning: the switch, how much was learned, its effect, and what can be done with it.

import { amountSentence, effectSentence } from "./effect.js";
import { showStatus } from "./elements.js";

const MAGIC = "KSLEARN"; // the beginning of a file of what was learned

/** Whether a file is one of what was learned. */
export async function isLearnedFile(file) {
  const start = file.slice(0, MAGIC.length);
  return (await start.text().catch(() => "")) === MAGIC; // Whoever reads it says why it cannot be read.
}

export class LearnedPanel {
  #at;
  #learner;
  #model = null; // with its name

  /** `at(id)` returns an element of the page; `learner` is a Learner. */
  constructor(at, learner) {
    [this.#at, this.#learner] = [at, learner];
    learner.addEventListener("change", () => this.#show());
    at("learn").addEventListener("change", () => learner.turn(at("learn").checked));
  }

  /** Shows what the open model has learned. */
  open(model, name) {
    this.#model = { level: model.vocabulary.level, name };
    this.#show();
  }

  async forget() {
    await this.#learner.replace(null);
    showStatus("The model has forgotten what it learned from you.");
    this.#at("unforget").focus();
  }

  async undo() {
    await this.#learner.undo();
    showStatus("The model knows again what it had learned.");
    this.#at("forget").focus();
  }

  /** Gives the user what was learned as a file. */
  async save() {
    const address = URL.createObjectURL(new Blob([await this.#learner.learned.file()]));
    const download = `${this.#model.name.replace(/\.tflite$/i, "")}.learned`;
    Object.assign(document.createElement("a"), { href: address, download }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000); // The browser may ask the user first.
  }

  /** Opens such a file, instead of what was learned here. */
  async openFile(file) {
    const { learned } = this.#learner;
    if (!learned) throw new Error(`${file.name} is what another model has learned. Open that model first.`);
    await this.#learner.replace(new Uint8Array(await file.arrayBuffer()));
    showStatus(`${file.name} is open.`);
  }

  #sentences() {
    const { learned, isOn, canUndo } = this.#learner;
    if (!learned.tokens) return [canUndo ? "All of it is forgotten." : "Nothing is learned yet."];
    const all = [amountSentence(learned, this.#model.level), effectSentence(learned.effect)];
    return isOn ? all : [...all, "The model uses it until you forget it."];
  }

  #show() {
    const { learned, isOn, canUndo } = this.#learner;
    this.#at("learning").hidden = !learned || !this.#model;
    if (!learned || !this.#model) return;
    const hasLearned = learned.tokens > 0;
    this.#at("learn").checked = isOn;
    this.#at("learned").hidden = !isOn && !hasLearned && !canUndo;
    this.#at("learned_sentence").textContent = this.#sentences().join(" ");
    for (const id of ["forget", "save_learned"]) this.#at(id).hidden = !hasLearned;
    this.#at("unforget").hidden = !canUndo;
  }
}
