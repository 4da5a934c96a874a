// What the browser keeps of a visit: the page's state in localStorage, and the file that the user opened in the Cache API.
//
// A browser may forbid both, and both may be full or damaged. The page works without them, so nothing here throws for that reason.

const DELAY = 500; // milliseconds between the first change and its saving
const FOLDER = new URL("./", location.href); // Several pages may share the storage of an origin.
const STATE = `keras_seq page 1 ${FOLDER.pathname}`; // the number is the version of the state
const MODELS = "keras_seq opened model"; // The service worker deletes caches whose names begin with "keras_seq-".
const MODEL = new URL("opened-model", FOLDER).href;
const NAME = "X-File-Name";

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
