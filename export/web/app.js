// The page: opens a model, suggests the next token while you type, and writes token by token.

import { Generation } from "./generation.js";
import { loadRuntime, Model, release } from "./model.js";

const SUGGESTIONS = 8;
const FRAME = 12; // milliseconds of writing between two looks at the screen
const MOST_SUGGESTED = 20000; // characters of a text that are read for suggestions

const at = (id) => document.getElementById(id);
const text = at("text");
let model = null;
let generation = null; // what Write began and may go on with
let writing = false;
let written = ""; // the text as the generation has left it

function tell(error) {
  at("error").textContent = error?.message ?? "";
  at("error").hidden = !error;
}

// ---- opening ----

async function open(bytes, name) {
  tell(null);
  at("name").textContent = `Opening ${name} …`;
  try {
    loadRuntime("./node_modules/@litertjs/core/wasm/");
    const opened = await Model.load(bytes);
    stop();
    forget();
    await reader.use(opened);
    model?.delete();
    model = opened;
  } catch (error) {
    at("name").textContent = `${name} was not opened`;
    return tell(error);
  }
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

addEventListener("dragover", (event) => {
  event.preventDefault();
  at("opener").classList.add("over");
});
addEventListener("dragleave", () => at("opener").classList.remove("over"));
addEventListener("drop", async (event) => {
  event.preventDefault();
  at("opener").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) open(new Uint8Array(await file.arrayBuffer()), file.name);
});

async function openByAddress() {
  const asked = new URLSearchParams(location.search).get("model");
  if (!asked) return;
  const address = new URL(asked, location.href);
  try {
    if (address.origin !== location.origin) throw new Error(`This page opens files of its own address only, not ${address.origin}.`);
    const response = await fetch(address);
    if (!response.ok) throw new Error(`${asked} cannot be had: ${response.status} ${response.statusText}`);
    await open(new Uint8Array(await response.arrayBuffer()), address.pathname.split("/").pop());
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
  busy: Promise.resolve(),

  async use(opened) {
    await this.busy;
    if (this.states) release(this.states);
    Object.assign(this, { model: opened, tokens: [], states: opened.initialStates(), logits: null });
  },

  /** Returns the logits after `<s>` and these tokens. */
  read(tokens) {
    this.busy = this.busy.catch(() => {}).then(async () => {
      const all = [this.model.vocabulary.startId, ...tokens];
      const known = this.tokens.length < all.length && this.tokens.every((token, index) => token === all[index]);
      if (this.logits && this.tokens.length === all.length && this.tokens.every((token, index) => token === all[index])) {
        return this.logits;
      }
      if (!known) {
        release(this.states);
        Object.assign(this, { tokens: [], states: this.model.initialStates() });
      }
      const { logits, states } = await this.model.read(all.slice(this.tokens.length), this.states);
      Object.assign(this, { tokens: all, states, logits });
      return logits;
    });
    return this.busy;
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

function suggestion({ id, share }) {
  const { eosId } = model.vocabulary;
  const piece = model.vocabulary.piece(id);
  const button = document.createElement("button");
  button.type = "button";
  button.style.setProperty("--share", share);
  const token = document.createElement("span");
  token.textContent = id === eosId ? "end of text" : (NAMES[piece] ?? piece.trimStart());
  const percent = document.createElement("small");
  percent.textContent = share < 0.005 ? "<1%" : `${Math.round(share * 100)}%`;
  button.append(token, percent);
  button.disabled = id === eosId;
  button.addEventListener("click", () => take(piece));
  return button;
}

function take(piece) {
  text.value += piece;
  text.scrollTop = text.scrollHeight;
  suggest();
}

async function suggest() {
  if (!model || writing) return;
  const asked = text.value;
  const box = at("suggestions");
  try {
    if (asked.length > MOST_SUGGESTED) throw new Error(`Suggestions end at ${MOST_SUGGESTED} characters; Write goes on.`);
    const logits = await reader.read(model.vocabulary.encode(asked));
    if (text.value !== asked || writing) return; // A later call is on its way.
    const focused = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...likeliest(logits).map(suggestion));
    box.children[focused]?.focus();
    tell(null);
  } catch (error) {
    box.replaceChildren();
    tell(error);
  }
}

text.addEventListener("input", () => {
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

function begin() {
  const fields = ["temperature", "top_k", "top_p", "min_p", "max_tokens", "seed"].map(at);
  if (at("new_seed").checked) newSeed();
  if (!fields.every((field) => field.reportValidity())) return null;
  const [temperature, top_k, top_p, min_p, maxTokens] = fields.map((field) => Number(field.value));
  const seed = BigInt.asIntN(64, BigInt(at("seed").value.trim()));
  return new Generation(model, text.value, { seed, maxTokens, settings: { temperature, top_k, top_p, min_p } });
}

async function write() {
  tell(null);
  try {
    if (!generation || text.value !== written) {
      forget();
      generation = begin();
    }
    if (!generation) return;
    writing = true;
    await reader.busy.catch(() => {});
    at("write").textContent = "Stop";
    at("suggestions").replaceChildren();
    text.readOnly = true;
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
  suggest();
}

async function run(current) {
  const began = performance.now();
  const first = current.position;
  let shown = began;
  let piece = "";
  let fresh = "";
  while (writing && (piece = await current.next()) !== null) {
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
  const why = { eos: "the model ended its text", length: "all tokens written", null: "stopped" }[current.finishReason];
  at("status").textContent = `${count} tokens, ${Math.round(count / seconds).toLocaleString("en")} a second; ${why}`;
}

function show(fresh) {
  text.value += fresh;
  text.scrollTop = text.scrollHeight;
}

function stop() {
  writing = false;
}

at("write").addEventListener("click", () => (writing ? stop() : write()));
at("clear").addEventListener("click", () => {
  stop();
  text.value = "";
  forget();
  at("status").textContent = "";
  suggest();
  text.focus();
});

// ---- off-line ----

navigator.serviceWorker?.register("service-worker.js").catch(() => {}); // Without it the page works on-line.

openByAddress();
