// The page: opens a model, suggests the next token while the user types, and writes token by token.

import { Generation } from "./generation.js";
import { loadRuntime, Model, release } from "./model.js";
import { codePoint } from "./vocabulary.js";

const SUGGESTIONS = 8;
const FRAME = 12; // milliseconds of writing between two updates of the screen
const MOST_SUGGESTED = 20000; // characters; longer texts get no suggestions

const at = (id) => document.getElementById(id);
const text = at("text");
let model = null;
let generation = null; // the text being written, which Continue may resume
let writing = false;
let running = Promise.resolve(); // settles when Write has finished
let written = ""; // the text when the generation stopped

function showError(error) {
  at("error").textContent = error?.message ?? "";
  at("error").hidden = !error;
}

// ---- opening ----

let requests = 0; // models requested so far: only the last one is opened, whichever is ready first

async function open(bytes, name) {
  showError(null);
  const number = ++requests;
  const before = at("name").textContent;
  at("name").textContent = `Opening ${name} …`;
  let opened;
  try {
    opened = await Model.load(bytes);
  } catch (error) {
    if (number !== requests) return;
    at("name").textContent = model ? before : `${name} was not opened`;
    return showError(error);
  }
  await stop();
  await reader.idle;
  if (number !== requests) return opened.delete();
  discard();
  const old = model;
  model = opened;
  reader.restart();
  old?.delete();
  const { license, parameters } = model.card;
  const about = [name];
  if (parameters) about.push(`${parameters.toLocaleString("en")} parameters`);
  if (license && license !== "not stated") about.push(`license: ${license}`);
  at("name").textContent = about.join(" · ");
  newSeed();
  for (const [setting, value] of Object.entries(model.defaults)) at(setting).value = value;
  at("writing").hidden = false;
  suggest();
}

at("file").addEventListener("change", async ({ target }) => {
  const [file] = target.files;
  if (file) open(new Uint8Array(await file.arrayBuffer()), file.name);
  target.value = ""; // lets the same file be opened again
});

const hasFiles = (event) => event.dataTransfer.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return; // Text can be dragged into the text field.
  event.preventDefault();
  at("opener").classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget === null && at("opener").classList.remove("over"));
addEventListener("drop", async (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  at("opener").classList.remove("over");
  const [file] = event.dataTransfer.files;
  open(new Uint8Array(await file.arrayBuffer()), file.name);
});

async function openFromAddress() {
  const requested = new URLSearchParams(location.search).get("model");
  if (!requested) return;
  try {
    const address = new URL(requested, location.href);
    if (address.origin !== location.origin) throw new Error(`This page opens files from its own address only, not from ${address.origin}.`);
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${requested} cannot be loaded: ${response.status} ${response.statusText}`);
    await open(new Uint8Array(await response.arrayBuffer()), decodeURIComponent(address.pathname.split("/").pop()));
  } catch (error) {
    showError(error);
  }
}

// ---- suggesting ----

/** Reads the text as it grows. It keeps the states, so that each call reads only the new tokens. */
const reader = {
  tokens: [],
  states: null,
  logits: null,
  idle: Promise.resolve(), // settles when the last call has finished; never rejects

  /** Discards what was read, for another text or model. */
  restart() {
    if (this.states) release(this.states);
    Object.assign(this, { tokens: [], states: null, logits: null });
  },

  /** Returns the logits after `<s>` and these tokens; null if `isWanted` returned false before the end. */
  read(tokens, isWanted) {
    const answer = this.idle.then(() => (isWanted() ? this.readNow([model.vocabulary.startId, ...tokens], isWanted) : null));
    this.idle = answer.catch(() => {});
    return answer;
  },

  async readNow(all, isWanted) {
    const isPrefix = this.tokens.length <= all.length && this.tokens.every((token, index) => token === all[index]);
    if (isPrefix && this.tokens.length === all.length) return this.logits;
    if (!isPrefix) this.restart();
    const states = this.states ?? model.initialStates();
    const rest = all.slice(this.tokens.length);
    Object.assign(this, { tokens: [], states: null, logits: null }); // `read` consumes the states, even if it fails
    const read = await model.read(rest, states, isWanted);
    if (read) Object.assign(this, { tokens: all, ...read });
    return this.logits;
  },
};

function mostLikely(logits) {
  const { reserved, eosId } = model.vocabulary;
  const highest = logits.reduce((highest, value) => Math.max(highest, value), -Infinity);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - highest), 0);
  return [...logits.keys()]
    .filter((id) => !reserved.has(id) || id === eosId)
    .sort((one, other) => logits[other] - logits[one])
    .slice(0, SUGGESTIONS)
    .map((id) => ({ id, probability: Math.exp(logits[id] - highest) / total }));
}

const NAMES = { " ": "space", "\n": "line break", "\t": "tab", "\r": "carriage return" };

/** The label of a token: white space by name, a word without its leading space. */
function labelOf(piece) {
  return NAMES[piece] ?? (piece.trim() || codePoint(piece));
}

function suggestionButton({ id, probability }) {
  const isEnd = id === model.vocabulary.eosId;
  const piece = model.vocabulary.piece(id, text.value);
  const button = document.createElement("button");
  button.type = "button";
  button.style.setProperty("--share", probability);
  const token = document.createElement("span");
  token.textContent = isEnd ? "end of text" : labelOf(piece);
  const percent = document.createElement("small");
  percent.textContent = probability < 0.005 ? "<1%" : `${Math.round(probability * 100)}%`;
  button.append(token, percent);
  button.ariaDisabled = isEnd; // not `disabled`, which would remove the focus
  if (!isEnd) button.addEventListener("click", () => append(piece));
  return button;
}

function append(piece) {
  text.value += piece;
  text.scrollTop = text.scrollHeight;
  discard();
  suggest();
}

async function suggest() {
  if (!model || writing) return;
  const read = text.value;
  const box = at("suggestions");
  const isWanted = () => text.value === read && !writing; // otherwise a later call follows
  box.ariaBusy = true;
  try {
    if (read.length > MOST_SUGGESTED) throw new Error(`There are no suggestions after ${MOST_SUGGESTED} characters, but Write still works.`);
    const logits = await reader.read(model.vocabulary.encode(read), isWanted);
    if (!logits || !isWanted()) return;
    const focused = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...mostLikely(logits).map(suggestionButton));
    box.children[focused]?.focus();
  } catch (error) {
    box.replaceChildren();
    showError(error);
  }
  box.ariaBusy = false;
}

document.querySelector("fieldset").addEventListener("input", ({ target }) => {
  if (target.id === "seed") at("new_seed").checked = false; // a typed seed is kept
  discard();
});

text.addEventListener("input", () => {
  at("status").textContent = "";
  showError(null);
  discard();
  suggest();
});

// ---- writing ----

function discard() {
  generation?.end();
  generation = null;
  at("write").textContent = "Write";
}

function newSeed() {
  at("seed").value = crypto.getRandomValues(new BigUint64Array(1))[0] >> 1n;
}

/** The seed in the field; as in every runtime a 64-bit integer, signed or unsigned. */
function seed() {
  const number = BigInt(at("seed").value.trim());
  const fits = number >= -(2n ** 63n) && number < 2n ** 64n;
  at("seed").setCustomValidity(fits ? "" : "A seed is a 64-bit integer.");
  return number;
}

function newGeneration() {
  const fields = ["temperature", "top_k", "top_p", "min_p", "max_tokens", "seed"].map(at);
  if (at("new_seed").checked) newSeed();
  at("seed").setCustomValidity("");
  if (at("seed").validity.valid) seed();
  if (!fields.every((field) => field.reportValidity())) return null;
  const [temperature, top_k, top_p, min_p, maxTokens] = fields.map((field) => Number(field.value));
  return new Generation(model, text.value, { seed: seed(), maxTokens, settings: { temperature, top_k, top_p, min_p } });
}

async function write() {
  showError(null);
  at("status").textContent = "";
  try {
    if (!generation || text.value !== written) {
      discard();
      generation = newGeneration();
    }
    if (!generation) return;
    writing = true;
    at("write").textContent = "Stop";
    at("suggestions").replaceChildren();
    text.readOnly = true;
    await reader.idle;
    await run(generation);
  } catch (error) {
    discard();
    showError(error);
  }
  writing = false;
  text.readOnly = false;
  written = text.value;
  if (generation?.finishReason) discard();
  at("write").textContent = generation ? "Continue" : "Write";
  if (at("error").hidden) suggest();
}

async function run(current) {
  let began = performance.now();
  const first = current.position;
  let shown = began;
  let piece = "";
  let unshown = "";
  if (first === 0 && text.value.length > 10_000) at("status").textContent = "reading the text …";
  while (writing && (piece = await current.next()) !== null) {
    if (unshown === "" && current.position === first + 1) began = performance.now(); // time of the prompt does not count
    unshown += piece;
    if (performance.now() - shown > FRAME) {
      show(unshown);
      unshown = "";
      await new Promise((resolve) => setTimeout(resolve)); // lets the browser paint and handle Stop
      shown = performance.now();
    }
  }
  show(unshown);
  const count = current.position - first;
  const seconds = (performance.now() - began) / 1000;
  const reason = { eos: "the model ended the text", length: "all tokens written" }[current.finishReason] ?? "stopped";
  at("status").textContent = `${count} tokens, ${Math.round(count / seconds).toLocaleString("en")} per second; ${reason}`;
}

function show(addition) {
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 8; // otherwise the user has scrolled up
  text.value += addition;
  if (atEnd) text.scrollTop = text.scrollHeight;
}

async function stop() {
  writing = false;
  await running;
}

at("write").addEventListener("click", () => {
  if (writing) stop();
  else running = running.then(write);
});
at("clear").addEventListener("click", async () => {
  await stop();
  showError(null);
  text.value = "";
  discard();
  at("status").textContent = "";
  suggest();
  text.focus();
});

// ---- off-line ----

async function cachePage() {
  const { active } = await navigator.serviceWorker.ready;
  const fetched = performance.getEntriesByType("resource").map(({ name }) => name);
  active.postMessage([new URL("./", location.href).href, ...fetched.filter((name) => name.startsWith(location.origin))]);
}

const ready = Promise.allSettled([loadRuntime(), openFromAddress()]);
// Without a service worker the page works on-line only.
navigator.serviceWorker?.register("service-worker.js").then(() => ready.then(cachePage), () => {});
