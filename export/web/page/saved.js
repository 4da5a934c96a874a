// What the browser keeps: the page's state in localStorage; in the Cache API, the file that the user opened and what
// models have learned.
//
// A browser may forbid both, and both may be full or damaged. The page works without them, so nothing here throws for that reason.

const DELAY = 500; // milliseconds between the first change and its saving
const FOLDER = new URL("./", location.href); // Several pages may share the storage of an origin.
const STATE = `keras_seq page 1 ${FOLDER.pathname}`; // the number is the version of the state
const MODELS = "keras_seq opened model"; // The service worker deletes caches whose names begin with "keras_seq-".
const MODEL = new URL("opened-model", FOLDER).href;
const NAME = "X-File-Name";
const LEARNED = "keras_seq learned";
const EFFECT = "X-Effect";

/**
 * Returns the state of the last visit; null if there is none that can be read.
 * @returns {object | null}
 */
export function saved() {
  try {
    const state = JSON.parse(localStorage.getItem(STATE));
    return typeof state === "object" ? state : null;
  } catch {
    return null;
  }
}

let waiting = null; // returns the state to save
let timer = null;

/**
 * Saves a state within half a second, and at once when the page is left. A later call replaces it.
 * @param {() => object} stateOf is called when the state is saved; returns what JSON can hold
 */
export function save(stateOf) {
  waiting = stateOf;
  timer ??= setTimeout(saveNow, DELAY);
}

function saveNow() {
  clearTimeout(timer);
  timer = null;
  if (waiting === null) return;
  const state = JSON.stringify(waiting());
  waiting = null;
  try {
    localStorage.setItem(STATE, state);
  } catch {
    // The storage is full or forbidden.
  }
}

// A phone may end a hidden page without `pagehide`.
addEventListener("pagehide", saveNow);
document.addEventListener("visibilitychange", () => document.visibilityState === "hidden" && saveNow());

/**
 * Returns the file that the user opened last; null if the browser keeps none.
 * @returns {Promise<{name: string, source: Blob} | null>}
 */
export async function savedModel() {
  try {
    const kept = await (await caches.open(MODELS)).match(MODEL);
    return kept ? { name: decodeURIComponent(kept.headers.get(NAME)), source: await kept.blob() } : null;
  } catch {
    return null;
  }
}

/**
 * Keeps the file that the user opened, instead of the one before. Returns whether it is kept: false if the storage is full or
 * forbidden, or the file cannot be read any more; then none is kept.
 * @param {string} name
 * @param {Blob} blob
 * @returns {Promise<boolean>}
 */
export async function saveModel(name, blob) {
  try {
    const headers = { [NAME]: encodeURIComponent(name.toWellFormed()), "Content-Type": "application/octet-stream" };
    await (await caches.open(MODELS)).put(MODEL, new Response(blob, { headers }));
    return true;
  } catch {
    await forgetModel(); // otherwise the next visit would open the file before this one
    return false;
  }
}

/** Keeps no file any more. */
export async function forgetModel() {
  try {
    await (await caches.open(MODELS)).delete(MODEL);
  } catch {
    // The storage is forbidden, so nothing is kept.
  }
}

/** Where the browser keeps what a model has learned. */
function learnedAt(key) {
  return new URL(`learned/${key}`, FOLDER).href;
}

/**
 * Returns what a model has learned from the user; null if the browser keeps nothing of it.
 * @param {string} key the SHA-256 of the model
 * @returns {Promise<{file: Uint8Array, effect: object | null} | null>}
 */
export async function keptLearned(key) {
  try {
    const kept = await (await caches.open(LEARNED)).match(learnedAt(key));
    if (!kept) return null;
    return { file: new Uint8Array(await kept.arrayBuffer()), effect: JSON.parse(kept.headers.get(EFFECT)) };
  } catch {
    return null;
  }
}

/** Keeps what a model has learned, instead of what it had learned before. Returns whether it is kept. */
export async function keepLearned(key, { file, effect }) {
  try {
    const headers = { [EFFECT]: JSON.stringify(effect), "Content-Type": "application/octet-stream" };
    await (await caches.open(LEARNED)).put(learnedAt(key), new Response(file, { headers }));
    return true;
  } catch {
    return false;
  }
}

/** Keeps nothing any more of what a model has learned. */
export async function dropLearned(key) {
  try {
    await (await caches.open(LEARNED)).delete(learnedAt(key));
  } catch {
    // The storage is forbidden, so nothing is kept.
  }
}
