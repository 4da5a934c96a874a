// When the open model learns: from what the user has typed, in a pause, while nothing is written.

import { Learned } from "./learned.js";
import { learnable, readsWords } from "./reading.js";
import { Typed } from "./typed.js";

const PAUSE = 1000; // milliseconds without a change, so that learning does not disturb the typing

/** Events: "change" when a model has learned or forgotten something, or another one is open; "error" with an error. */
export class Learner extends EventTarget {
  isOn = false;
  learned = null; // what the open model has learned; null if it cannot learn
  #editor;
  #desk;
  #model = null;
  #typed = new Typed();
  #waiting = []; // texts to learn from
  #before = null; // what brings back what was replaced last
  #timer = null;
  #isStale = false; // Another tab has changed what the browser keeps.
  #idle = Promise.resolve(); // settles when nothing is learned or forgotten; never rejects
  #channel = new BroadcastChannel(new URL("learned", location.href).href); // tells other tabs which model has changed

  constructor(editor, desk) {
    super();
    [this.#editor, this.#desk] = [editor, desk];
    editor.addEventListener("edit", ({ detail }) => this.#onEdit(detail.isTyped === true));
    editor.addEventListener("caret", () => this.#soon());
    desk.addEventListener("state", () => this.#soon());
    this.#channel.addEventListener("message", ({ data }) => {
      this.#isStale ||= data === this.learned?.key;
      this.#soon();
    });
  }

  /** Learns from what is typed from now on, or no more. */
  turn(isOn) {
    this.isOn = isOn;
    this.#ignoreText();
    this.#tell("change");
  }

  /** Uses a model, with what the browser keeps for it. */
  async use(model) {
    const learned = model.hasLearn ? new Learned(model) : null;
    [this.#model, this.learned, this.#before, this.#isStale] = [model, learned, null, false];
    this.#ignoreText();
    if (learned) await this.#alone(() => learned.load());
    else this.#tell("change");
  }

  /** Replaces what was learned by a file of it, or by nothing. A text that is being written ends. */
  async replace(file, effect) {
    do await this.#desk.giveUp();
    while (this.#desk.isWriting); // A tap was faster.
    const { learned } = this;
    await this.#alone(async () => {
      const before = await learned.replace(file, effect);
      this.#channel.postMessage(learned.key);
      if (learned !== this.learned) return;
      this.#before = before[0] && before;
      this.#ignoreText();
    });
  }

  get canUndo() {
    return this.#before !== null;
  }

  /** Brings back what was learned before the last `replace`. */
  undo() {
    return this.replace(...this.#before);
  }

  #onEdit(isTyped) {
    if (!this.isOn) return;
    this.#typed.follow(this.#editor.text, this.#editor.selection.end, isTyped);
    this.#soon();
  }

  /** Learns nothing from what was typed so far. */
  #ignoreText() {
    this.#typed.begin(this.#editor.text);
    this.#waiting = [];
  }

  #soon() {
    clearTimeout(this.#timer);
    if (this.learned && (this.isOn || this.#isStale)) this.#timer = setTimeout(() => this.#catchUp(), PAUSE);
  }

  /** Whether the model may change: a text that it writes, or that Continue resumes, would end with an error. */
  get #isFree() {
    return !this.#desk.isWriting && !this.#desk.canContinue;
  }

  #catchUp() {
    if (!this.#isFree) return;
    const [model, byLine] = [this.#model, this.#model.config.by_line === true];
    const canLearn = (part) => readsWords(model, part);
    if (this.isOn) this.#waiting.push(...this.#typed.take(this.#editor.selection, { byLine, canLearn }));
    const { learned } = this;
    if (!this.#waiting.length && !this.#isStale) return;
    this.#alone(() => this.#learn(model, learned)).catch((error) => this.#onError(error, learned));
  }

  /** Learns from what is waiting, as long as nothing is written. */
  async #learn(model, learned) {
    if (this.#isStale) await learned.load();
    this.#isStale = false;
    let hasLearned = false;
    try {
      while (this.#isFree && learned === this.learned && this.#waiting.length) {
        const text = learnable(model, this.#waiting.shift());
        if (text.trim() === "") continue;
        await learned.learn(text);
        hasLearned = true;
      }
    } finally {
      if (hasLearned) await this.#keep(learned);
    }
  }

  async #keep(learned) {
    if (learned === this.learned) this.#before = null;
    await learned.keep();
    this.#channel.postMessage(learned.key);
  }

  #onError(error, learned) {
    if (learned !== this.learned) return; // The model was closed.
    this.#tell("error", new Error(`Nothing was learned from what you wrote last: ${error.message}`, { cause: error }));
  }

  /** Calls `work`, which changes what the model has learned, after the calls before it. */
  #alone(work) {
    const done = this.#idle.then(work).finally(() => this.#onChange());
    this.#idle = done.catch(() => {});
    return done;
  }

  /** A run that was stopped cannot go on. */
  #onChange() {
    this.#desk.forgetRun();
    this.#tell("change");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
