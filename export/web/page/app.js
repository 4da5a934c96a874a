// The page: opens a model, suggests the next word while the user types, and writes token by token.

import { KerasSeq, loadRuntime } from "../keras_seq/keras_seq.js";
import { isSeed } from "../keras_seq/options.js";
import { newSeed } from "../keras_seq/random.js";

const SUGGESTIONS = 8;
const FRAME = 33; // milliseconds between two updates of the text: laying out a long one takes longer than drawing its tokens
const LONGEST_SHOWN = 24; // characters of a suggestion
const MOST_SUGGESTED = 20000; // characters; longer texts get no suggestions

const at = (id) => document.getElementById(id);
const text = at("text");
let model = null;
let writer = null; // the text being written, which Continue may resume
let writing = false;
let running = Promise.resolve(); // settles when Write has finished
let begun = null; // the last writer that has begun to write
let written = ""; // the text when the writer stopped

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
    opened = await KerasSeq.load(bytes);
  } catch (error) {
    if (number !== requests) return;
    at("name").textContent = model ? before : `${name} was not opened`;
    return showError(error);
  }
  await stop();
  if (number !== requests) return opened.close();
  discard();
  suggesting.abort();
  model?.close();
  model = opened;
  const { license, parameters } = model.card;
  const about = [name];
  if (parameters) about.push(`${parameters.toLocaleString("en")} parameters`);
  if (license && license !== "not stated") about.push(`license: ${license}`);
  at("name").textContent = about.join(" · ");
  fillInSeed();
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

let suggesting = new AbortController(); // aborts the search for suggestions that are no longer wanted

function suggestionButton({ text: word, insert, probability }) {
  const button = document.createElement("button");
  button.type = "button";
  button.style.setProperty("--share", probability);
  const name = document.createElement("span");
  name.textContent = word.length > LONGEST_SHOWN ? `…${[...word].slice(1 - LONGEST_SHOWN).join("")}` : word;
  const percent = document.createElement("small");
  percent.textContent = probability < 0.005 ? "<1%" : `${Math.round(probability * 100)}%`;
  button.append(name, percent);
  button.addEventListener("click", () => append(insert));
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
  suggesting.abort();
  suggesting = new AbortController();
  const { signal } = suggesting;
  box.ariaBusy = true;
  try {
    if (read.length > MOST_SUGGESTED) throw new Error(`There are no suggestions after ${MOST_SUGGESTED} characters, but Write still works.`);
    const words = await model.suggest(read, SUGGESTIONS, { signal });
    signal.throwIfAborted();
    const focused = [...box.children].indexOf(document.activeElement);
    box.replaceChildren(...words.map(suggestionButton));
    box.children[focused]?.focus();
  } catch (error) {
    if (signal.aborted) return; // A later call follows, or the model was closed.
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
  writer?.return();
  writer = null;
  at("write").textContent = "Write";
}

function fillInSeed() {
  at("seed").value = newSeed();
}

/** The seed in the field. */
function seed() {
  const number = BigInt(at("seed").value.trim());
  at("seed").setCustomValidity(isSeed(number) ? "" : "A seed is a 64-bit integer.");
  return number;
}

function newWriter() {
  const fields = ["temperature", "top_k", "top_p", "min_p", "max_tokens", "seed"].map(at);
  if (at("new_seed").checked) fillInSeed();
  at("seed").setCustomValidity("");
  if (at("seed").validity.valid) seed();
  if (!fields.every((field) => field.reportValidity())) return null;
  const [temperature, top_k, top_p, min_p, max_tokens] = fields.map((field) => Number(field.value));
  return model.write(text.value, { seed: seed(), max_tokens, temperature, top_k, top_p, min_p });
}

async function write() {
  showError(null);
  at("status").textContent = "";
  try {
    if (!writer || text.value !== written) {
      discard();
      writer = newWriter();
    }
    if (!writer) return;
    writing = true;
    suggesting.abort();
    at("write").textContent = "Stop";
    at("suggestions").replaceChildren();
    text.readOnly = true;
    await run(writer);
  } catch (error) {
    discard();
    showError(error);
  }
  writing = false;
  text.readOnly = false;
  written = text.value;
  if (writer?.finishReason) discard();
  at("write").textContent = writer ? "Continue" : "Write";
  if (at("error").hidden) suggest();
}

async function run(current) {
  let began = performance.now();
  let shown = began;
  let count = 0;
  let unshown = "";
  if (current !== begun && text.value.length > 10_000) at("status").textContent = "reading the text …";
  begun = current;
  try {
    while (writing) {
      const { value: piece, done } = await current.next();
      if (done) break;
      count += 1;
      if (count === 1) began = performance.now(); // time of the prompt does not count
      unshown += piece.text;
      if (performance.now() - shown > FRAME) {
        show(unshown);
        unshown = "";
        shown = performance.now();
      }
    }
  } finally {
    show(unshown);
  }
  const seconds = (performance.now() - began) / 1000;
  const reason = { eos: "the model ended the text", length: "all tokens written" }[current.finishReason] ?? "stopped";
  at("status").textContent = `${count} tokens, ${Math.round(count / seconds).toLocaleString("en")} per second; ${reason}`;
}

function show(addition) {
  const atEnd = text.scrollHeight - text.scrollTop - text.clientHeight < 8; // otherwise the user has scrolled up
  text.setRangeText(addition, text.textLength, text.textLength);
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
