// Writes with the open model into the editor's text: Write, Stop, Continue, Try again, and another token.

import { readable } from "./reading.js";
import { Run } from "./writing.js";

const LONG = 10_000; // characters that take a moment to read
const REASONS = { eos: "the model ended it", length: "Write goes on" };

/** Events: "state" when it begins or ends to write, "status" with a text for the user, "error" with an error. */
export class Desk extends EventTarget {
  model = null;
  isWriting = false;
  countsTokens = false; // in what it tells the user; otherwise characters or words
  #editor;
  #settings;
  #run = null; // that is writing, or that Continue resumes
  #running = Promise.resolve();
  #left = null; // the text when the run stopped
  #ended = null; // the text when the model ended it
  #runs = 0; // the number of the last run
  #oldRuns = 0; // the number of the last run of another model
  #groups = 0;
  #last = null; // what made the last run, while the text is what it made

  constructor(editor, settings) {
    super();
    this.#editor = editor;
    this.#settings = settings;
    editor.addEventListener("edit", ({ detail }) => detail.byUser && this.#onEdit());
    settings.addEventListener("change", ({ detail }) => this.#onSetting(detail.name));
  }

  /** What the button does next. */
  get label() {
    if (this.isWriting) return "Stop";
    if (this.canContinue) return "Continue";
    return this.hasEndedLine ? "Write again" : "Write";
  }

  /** Whether a text that was stopped can go on. */
  get canContinue() {
    return this.#run !== null && this.#left === this.#editor.text;
  }

  /** Whether the text ends with a whole line of a model that writes single lines. */
  get hasEndedLine() {
    return this.model?.config.by_line === true && this.#ended === this.#editor.text && this.#ended !== "";
  }

  /** Uses another model; the old one can be closed afterwards. */
  async use(model, { isSame = false } = {}) {
    do await this.giveUp();
    while (this.isWriting); // A tap was faster.
    this.model = model;
    if (!isSame) [this.#oldRuns, this.#last] = [this.#runs, null];
    this.#tell("state");
  }

  /**
   * Continues a stopped text, or begins a new one, unless a setting is wrong, which the user is shown. `isLast` and `maxTokens` limit
   * it; `group` names the step of undo. Returns why the text ended, null if it can go on, when it is there.
   */
  write({ group = this.group(), keepsSeed = false, maxTokens = this.#settings.maxTokens, isLast } = {}) {
    if (!this.model || this.isWriting || !this.#settings.require()) return this.#running;
    try {
      if (!this.canContinue) this.#begin(group, keepsSeed, maxTokens);
    } catch (error) {
      this.#tell("error", error);
      return this.#running;
    }
    this.isWriting = true;
    this.#tell("state");
    this.#running = this.#go(this.#run, group, isLast);
    return this.#running;
  }

  /** Stops before the next token; Continue resumes. */
  stop() {
    if (this.isWriting) this.#run.pause();
    return this.#running;
  }

  /** Whether the text ends with what the model wrote, which may be nothing yet. */
  get canTryAgain() {
    return this.model !== null && this.#lastStart() !== undefined;
  }

  /** Replaces what the model wrote last by another text of the same beginning. */
  async tryAgain() {
    await this.giveUp();
    if (this.isWriting) return; // Another tap was faster.
    const start = this.#lastStart();
    if (start === undefined || !this.#settings.require()) return;
    const group = this.group();
    this.#settings.drawSeed();
    this.#editor.replace(start, this.#editor.text.length, "", { group });
    await this.write({ group, keepsSeed: true });
  }

  /** Whether the open model wrote a token, so that it knows what else it could have been. */
  isOwn(token) {
    return token.run > this.#oldRuns;
  }

  /** Cuts the text at a token, writes another one in its place, and goes on. */
  async takeAlternative(token, { text, tokenId, probability }) {
    await this.giveUp();
    const group = this.group();
    const tokens = [{ text, tokenId, probability, run: ++this.#runs }];
    this.#editor.replace(token.start, this.#editor.text.length, text, { tokens, group });
    if (text !== "") return this.write({ group });
    this.#ended = this.#editor.text;
    this.#tell("state");
    this.#tell("status", "The text ends here.");
  }

  /** Returns a new name of a step of undo. */
  group() {
    return `written ${++this.#groups}`;
  }

  /**
   * Returns what gives this text again: its beginning, and what continues it; without the latter, the text is a beginning itself.
   * null if that needs a setting that is wrong, which the user is shown. What a model has written that `hasLearned` is
   * part of the beginning, because others' models would write another text.
   */
  recipe() {
    const { text } = this.#editor;
    if (this.#last?.count > 0 && !this.#last.hasChanged && !this.#last.hasLearned) {
      const { start, seed, sampling, count } = this.#last;
      return { prompt: text.slice(0, start), seed: BigInt(seed), settings: sampling, maxTokens: count };
    }
    if (!this.#settings.require()) return null;
    const { seed, sampling } = this.#settings;
    return { prompt: text, seed, settings: sampling, maxTokens: 0, hasLearned: this.#last?.hasLearned === true };
  }

  /** What `restore` takes, as plain values. */
  state() {
    return { runs: this.#runs, oldRuns: this.#oldRuns, last: this.#last, ended: this.#ended === this.#editor.text };
  }

  restore({ runs, oldRuns, last, ended }) {
    [this.#runs, this.#oldRuns, this.#last] = [runs, oldRuns, last];
    this.#ended = ended ? this.#editor.text : null;
  }

  // ---- one run ----

  /** Begins a new run. */
  #begin(group, keepsSeed, maxTokens) {
    this.#run?.end();
    this.#run = null;
    if (!keepsSeed) this.#settings.nextSeed();
    const isNextLine = this.hasEndedLine;
    this.#editor.takeSpaceBack(group, { alsoTyped: this.model.vocabulary.level === "word" });
    if (isNextLine) this.#editor.append("\n", { group });
    const { seed, sampling } = this.#settings;
    const { model } = this;
    const prompt = readable(model, this.#editor.text);
    this.#run = new Run((signal) => model.write(prompt, { ...sampling, seed, max_tokens: maxTokens, signal }));
    this.#runs += 1;
    const hasLearned = model.learnedTokens > 0;
    const start = this.#editor.text.length;
    this.#last = { start, seed: String(seed), sampling, count: 0, hasChanged: false, hasLearned };
  }

  async #go(run, group, isLast) {
    const [number, last] = [this.#runs, this.#last];
    this.#tell("status", run.count === 0 && this.#editor.text.length > LONG ? "Reading the text …" : "");
    try {
      await run.go((pieces) => {
        this.#append(pieces, number, group);
        if (last) Object.assign(last, { count: run.count, hasChanged: run.hasChanged });
      }, isLast);
    } catch (error) {
      run.end();
      this.#tell("error", error);
    }
    this.isWriting = false;
    const { text } = this.#editor;
    const { isGivenUp } = run;
    this.#left = text;
    if (run.reason === "eos") this.#ended = text;
    if (run.reason || isGivenUp || isLast) this.#forget();
    if (!isGivenUp) this.#tell("status", this.#report(run));
    this.#tell("state");
    return run.reason;
  }

  #append(pieces, run, group) {
    const tokens = pieces.map(({ text, tokenId, logProbability }) => ({ text, tokenId, probability: Math.exp(logProbability), run }));
    this.#editor.append(pieces.map(({ text }) => text).join(""), { tokens, group });
  }

  #report({ count, characters, seconds, reason }) {
    const [amount, unit] = this.#amount(count, characters);
    const rate = seconds > 0 && count > 1 ? `, ${Math.round(amount / seconds).toLocaleString("en")} per second` : "";
    return `${amount.toLocaleString("en")} ${unit}${amount === 1 ? "" : "s"}${rate}: ${REASONS[reason] ?? "stopped"}`;
  }

  #amount(count, characters) {
    if (this.countsTokens) return [count, "token"];
    if (this.model.vocabulary.level === "char") return [characters, "character"];
    const written = this.#editor.document.lastRun();
    const words = this.#editor.text.slice(written[0]?.start).match(/\S+/g) ?? [];
    return [written.length ? words.length : 0, "word"];
  }

  /** Returns where the last run began, also if it has written nothing yet; undefined if the text ends with something else. */
  #lastStart() {
    return this.#last?.start ?? this.#editor.document.lastRun()[0]?.start;
  }

  #forget() {
    this.#run?.end();
    this.#run = null;
  }

  /** Lets no stopped text go on, because the model has changed. */
  forgetRun() {
    if (this.isWriting) return;
    this.#forget();
    this.#tell("state");
  }

  /** Stops for good. Of several calls at the same time, each one ends what the others have begun. */
  async giveUp() {
    while (this.isWriting) {
      this.#run.end();
      await this.#running;
    }
    this.#forget();
  }

  /** The user does not wait for the model, and the text is no longer what it made. */
  #onEdit() {
    if (this.isWriting) this.#run.end();
    this.#last = null;
  }

  /** While it writes, a setting counts from the next token on. Otherwise the next text begins with it. */
  #onSetting(name) {
    if (this.isWriting && name in this.#settings.sampling) this.#run.change({ [name]: this.#settings.sampling[name] });
    if (this.isWriting) return;
    this.#forget();
    this.#tell("state");
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
