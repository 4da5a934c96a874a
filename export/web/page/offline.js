// Lets the page open without a network: registers the service worker, and tells it what it must keep besides the page's own files.

import { wasmIn } from "../keras_seq/wasm.js";

/**
 * Registers the service worker, which keeps the page's files. Where there is none, the page works on-line only.
 */
export function register() {
  navigator.serviceWorker?.register("service-worker.js").catch(() => {});
}

/**
 * Lets the service worker keep the runtime that this browser uses, and the models. To be called once the page is ready: both are
 * loaded again, from the browser's own cache. After the first visit, this does nothing: the worker sees itself what the page fetches.
 * @param {string} wasm the folder of LiteRT.js's wasm, with a slash at its end
 * @param {string[]} addresses those of the models, relative to the page; not of files that the user opened
 * @returns {Promise<void>}
 */
export async function keepForLater(wasm, addresses) {
  if (!navigator.serviceWorker || navigator.serviceWorker.controller) return;
  const runtime = wasmIn(wasm); // A worker fetches it, whose requests the page does not see.
  const { active } = await navigator.serviceWorker.ready;
  const fetched = [`${runtime}.js`, `${runtime}.wasm`, "models.json", ...addresses];
  active.postMessage(fetched.map((address) => new URL(address, location.href).href));
}
