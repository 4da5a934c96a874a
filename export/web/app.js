// The page: opens a model, suggests the next token while you type, and writes token by token.

import { Generation } from "./generation.js";
import { loadRuntime, Model, release } from "./model.js";
import { codePoint } from "./vocabulary.js";

const SUGGESTIONS = 8;
const FRAME = 12; // milliseconds of writing between two looks at the screen
const MOST_SUGGESTED = 20000; // characters of a text that are read for suggestions

const at = (id) => document.getElementById(id);
const text = at("text");
let model = null;
let generation = null; // what Write began and may go on with
let writing = false;
let running = Promise.resolve(); // what Write does, until it is done
let written = ""; // the text as the generation has left it

function tell(error) {
  at("error").textContent = error?.message ?? "";
  at("error").hidden = !error;
}

// ---- opening ----

let asked = 0; // how many models have been asked for: the last one counts, whichever is ready first

async function open(bytes, name) {
  tell(null);
  const number = ++asked;
  const before = at("name").textContent;
  at("name").textContent = `Opening ${name} …`;
  let opened;
  try {
    opened = await Model.load(bytes);
  } catch (error) {
    if (number !== asked) return;
    at("name").textContent = model ? before : `${name} was not opened`;
    return tell(error);
  }
  await stop();
  await reader.busy;
  if (number !== asked) return opened.delete();
  forget();
  const old = model;
  model = opened;
  reader.begin();
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
  target.value = ""; // so that the same file can be opened again
});

const hasFiles = (event) => event.dataTransfer.types.includes("Files");
addEventListener("dragover", (event) => {
  if (!hasFiles(event)) return; // Text may be dragged into the field.
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

async function openByAddress() {
  const asked = new URLSearchParams(location.search).get("model");
  if (!asked) return;
  try {
    const address = new URL(asked, location.href);
    if (address.origin !== location.origin) throw new Error(`This page opens files of its own address only, not ${address.origin}.`);
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${asked} cannot be had: ${response.status} ${response.statusText}`);
    await open(new Uint8Array(await response.arrayBuffer()), decodeURIComponent(address.pathname.split("/").pop()));
  } catch (error) {
    tell(error);
  }
}

// ---- suggesting ----

/** Reads the text as it grows, and only what is new of it; the states after each reading are kept for the next. */
const reader = {
  tokens: [],
  states: null,
  logits: null,
  busy: Promise.resolve(), // never fails

  /** Forgets all, for the model that is open now. */
  begin() {
    if (this.states) release(this.states);
    Object.assign(this, { tokens: [], states: null, logits: null });
  },

  /** Returns the logits after `<s>` and these tokens; null where `goesOn` said no, before or meanwhile. */
  read(tokens, goesOn) {
    const answer = this.busy.then(() => (goesOn() ? this.readNow([model.vocabulary.startId, ...tokens], goesOn) : null));
    this.busy = answer.catch(() => {});
    return answer;
  },

  async readNow(all, goesOn) {
    const same = this.tokens.length <= all.length && this.tokens.every((token, index) => token === all[index]);
    if (same && this.tokens.length === all.length) return this.logits;
    if (!same) this.begin();
    const states = this.states ?? model.initialStates();
    const rest = all.slice(this.tokens.length);
    Object.assign(this, { tokens: [], states: null, logits: null }); // `read` uses the states up, also if it fails
    const read = await model.read(rest, states, goesOn);
    if (read) Object.assign(this, { tokens: all, ...read });
    return this.logits;
  },
};

function likeliest(logits) {
  const { reserved, eosId } = model.vocabulary;
  const highest = logits.reduce((most, value) => Math.max(most, value), -Infinity);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - highest), 0);
  return [...logits.keys()]
    .filter((id) => id >= reserved || id === eosId)
    .sort((one, other) => logits[other] - logits[one])
    .slice(0, SUGGESTIONS)
    .map((id) => ({ id, share: Math.exp(logits[id] - highest) / total }));
}

const NAMES = { " ": "space", "\n": "line break", "\t": "tab", "\r": "carriage return" };

/** What a token is called: white space by its name, a word without the space before it. */
function nameOf(piece) {
  return NAMES[piece] ?? (piece.trim() || codePoint(piece));
}

function suggestion({ id, share }) {
  const isEnd = id === model.vocabulary.eosId;
  const piece = model.vocabulary.piece(id);
  const button = document.createElement("button");
  button.type = "button";
  button.style.setProperty("--share", share);
  const token = document.createElement("span");
  token.textContent = isEnd ? "end of text" : nameOf(piece);
  const percent = document.createElement("small");
  percent.textContent = share < 0.005 ? "<1%" : `${Math.round(share * 100)}%`;
  button.append(token, percent);
  button.ariaDisabled = isEnd; // not `disabled`, which would take the focus away
  if (!isEnd) button.addEventListener("click", () => take(piece));
  return button;
}

function take(piece) {
  text.value += piece;
  text.scrollTop = text.scrollHeight;
  forget();
  suggest();
}

async function suggest() {
  if (!model || writing) return;
  const read = text.value;
  const box = at("suggestions");
  const stillAsked = () => text.value === read && !writing; // else a later call is on its way
  box.ariaBusy = true;
  try {
    if (read.length > MOST_SUGGESTED) throw new Error(`Suggestions end at ${MOST_SUGGESTED} characters; Write goes on.`);
    const logits = await reader.read(model.vocabulary.encode(read), stillAsked);
    if (!logits || !stillAsked()) return;
    const focused = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...likeliest(logits).map(suggestion));
    box.children[focused]?.focus();
  } catch (error) {
    box.replaceChildren();
    tell(error);
  }
  box.ariaBusy = false;
}

document.querySelector("fieldset").addEventListener("input", ({ target }) => {
  if (target.id === "seed") at("new_seed").checked = false; // whoever types a seed wants it
  forget();
});

text.addEventListener("input", () => {
  at("status").textContent = "";
  tell(null);
  forget();
  suggest();
});

// ---- writing ----

function forget() {
  generation?.end();
  generation = null;
  at("write").textContent = "Write";
}

function newSeed() {
  at("seed").value = crypto.getRandomValues(new BigUint64Array(1))[0] >> 1n;
}

/** The seed in its field, in the range of every runtime: 64 bits, with a sign or without. */
function seed() {
  const number = BigInt(at("seed").value.trim());
  const fits = number >= -(2n ** 63n) && number < 2n ** 64n;
  at("seed").setCustomValidity(fits ? "" : "A seed is a 64-bit integer.");
  return number;
}

function begin() {
  const fields = ["temperature", "top_k", "top_p", "min_p", "max_tokens", "seed"].map(at);
  if (at("new_seed").checked) newSeed();
  at("seed").setCustomValidity("");
  if (at("seed").validity.valid) seed();
  if (!fields.every((field) => field.reportValidity())) return null;
  const [temperature, top_k, top_p, min_p, maxTokens] = fields.map((field) => Number(field.value));
  return new Generation(model, text.value, { seed: seed(), maxTokens, settings: { temperature, top_k, top_p, min_p } });
}

async function write() {
  tell(null);
  at("status").textContent = "";
  try {
    if (!generation || text.value !== written) {
      forget();
      generation = begin();
    }
    if (!generation) return;
    writing = true;
    at("write").textContent = "Stop";
    at("suggestions").replaceChildren();
    text.readOnly = true;
    await reader.busy;
    await run(generation);
  } catch (error) {
    forget();
    tell(error);
  }
  writing = false;
  text.readOnly = false;
  written = text.value;
  if (generation?.finishReason) forget();
  at("write").textContent = generation ? "Continue" : "Write";
  if (at("error").hidden) suggest();
}

async function run(current) {
  let began = performance.now();
  const first = current.position;
  let shown = began;
  let piece = "";
  let fresh = "";
  if (first === 0 && text.value.length > 10_000) at("status").textContent = "reading the text …";
  while (writing && (piece = await current.next()) !== null) {
    if (fresh === "" && current.position === first + 1) began = performance.now(); // what was read before does not count
    fresh += piece;
    if (performance.now() - shown > FRAME) {
      show(fresh);
      fresh = "";
      await new Promise((resolve) => setTimeout(resolve)); // lets the page be painted, and Stop be pressed
      shown = performance.now();
    }
  }
  show(fresh);
  const count = current.position - first;
  const seconds = (performance.now() - began) / 1000;
  const why = { eos: "the model ended its text", length: "all tokens written" }[current.finishReason] ?? "stopped";
  at("status").textContent = `${count} tokens, ${Math.round(count / seconds).toLocaleString("en")} a second; ${why}`;
}

function show(fresh) {
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 8; // else somebody reads further up
  text.value += fresh;
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
  tell(null);
  text.value = "";
  forget();
  at("status").textContent = "";
  suggest();
  text.focus();
});

// ---- off-line ----

async function keep() {
  const { active } = await navigator.serviceWorker.ready;
  const fetched = performance.getEntriesByType("resource").map(({ name }) => name);
  active.postMessage([new URL("./", location.href).href, ...fetched.filter((name) => name.startsWith(location.origin))]);
}

const ready = Promise.allSettled([loadRuntime(), openByAddress()]);
// Without it the page works on-line.
navigator.serviceWorker?.register("service-worker.js").then(() => ready.then(keep), () => {});
