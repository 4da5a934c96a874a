// Keeps the page, so that it opens at once and without a network.
//
// files.json has the SHA-256 of each of the page's files. Each visit asks for it. If it has changed, the changed files are fetched, and
// the new list is used when all of them have arrived: no visit has files of two versions. All else, such as models, is asked for each
// time; the kept copy answers without a network.

const PREFIX = "keras_seq-"; // of all its caches; several pages may share the caches of an origin
const SCOPE = self.registration.scope;
const PAGE = `${PREFIX}2 page ${SCOPE}`; // the page's files: keys are their addresses with their SHA-256
const OTHERS = `${PREFIX}2 others ${SCOPE}`; // models: keys are their addresses
const LIST = new URL("files.json", SCOPE).href;
const LONGEST_WAIT = 5000; // milliseconds for a new version, after which the visit uses the kept one
const IS_RUNTIME = /\/wasm\/[^/]*$/; // LiteRT.js: 9 MB for each kind of browser, so only those that the page asks for

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(update(AbortSignal.timeout(60_000)));
});

self.addEventListener("activate", (event) => event.waitUntil(dropOld()));

/** Deletes the caches of this page from earlier versions of this script. */
async function dropOld() {
  const isOld = (name) => name === `${PREFIX}1` || (name.startsWith(PREFIX) && name.endsWith(SCOPE) && ![PAGE, OTHERS].includes(name));
  await Promise.all((await caches.keys()).filter(isOld).map((name) => caches.delete(name)));
}

// What the page has fetched, perhaps before this worker was active.
self.addEventListener("message", (event) => event.waitUntil(Promise.allSettled(event.data.map(keep))));

async function keep(address) {
  const files = await keptList();
  const file = fileOf(address);
  if (file in files) return keepFile(await caches.open(PAGE), file, files[file]);
  const others = await caches.open(OTHERS);
  if (!(await others.match(address))) await others.add(address);
}

// ---- the page's files ----

/** Returns the address of a file relative to that of the page, as in files.json. */
function fileOf(address) {
  const { origin, pathname } = new URL(address);
  const whole = origin + pathname;
  if (!whole.startsWith(SCOPE)) return "";
  return decodeURIComponent(whole.slice(SCOPE.length)) || "index.html";
}

const keyOf = (file, hash) => `${new URL(encodeURI(file), SCOPE).href}?sha256=${hash}`;

/** Returns the list of the files of the version that is kept; empty if none is. */
async function keptList() {
  const kept = await (await caches.open(PAGE)).match(LIST);
  return kept ? kept.json() : {};
}

let updating = null;

/** Fetches the page's files that have changed, and then uses them. Visits at the same time share one update. */
function update(signal) {
  updating ??= updateNow(signal).finally(() => (updating = null));
  return updating;
}

async function updateNow(signal) {
  const response = await fetch(LIST, { cache: "no-cache", signal });
  if (!response.ok) throw new Error(`${LIST}: ${response.status}`);
  const list = response.clone();
  const files = Object.entries(await response.json());
  const cache = await caches.open(PAGE);
  const kept = new Set((await cache.keys()).map(({ url }) => url));
  const wanted = files.filter(([file, hash]) => !IS_RUNTIME.test(file) && !kept.has(keyOf(file, hash)));
  await Promise.all(wanted.map(([file, hash]) => keepFile(cache, file, hash, signal)));
  await cache.put(LIST, list);
  const current = new Set([LIST, ...files.map(([file, hash]) => keyOf(file, hash))]);
  await Promise.all([...kept].filter((key) => !current.has(key)).map((key) => cache.delete(key)));
}

/** Fetches a file, and keeps it if it is the one that files.json means: a cache on the way may still have the one before. */
async function keepFile(cache, file, hash, signal) {
  const key = keyOf(file, hash);
  if (await cache.match(key)) return;
  const response = await fetch(new URL(encodeURI(file), SCOPE), { cache: "no-cache", signal });
  const content = await response.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== hash) throw new Error(`${file} is not that of files.json.`);
  await cache.put(key, new Response(content, { headers: response.headers })); // without a redirect, which a page may not come from
}

// ---- answers ----

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(answer(event));
});

async function answer(event) {
  const { request } = event;
  if (request.mode === "navigate") await update(AbortSignal.timeout(LONGEST_WAIT)).catch(() => {}); // off-line, or too slow
  const [file, files] = [fileOf(request.url), await keptList()];
  if (!(file in files)) return networkFirst(event);
  const kept = await (await caches.open(PAGE)).match(keyOf(file, files[file]));
  return kept ?? fetch(request);
}

async function networkFirst(event) {
  const { request } = event;
  const others = await caches.open(OTHERS);
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    const kept = await others.match(request);
    if (kept) return kept;
    throw error;
  }
  if (response.status === 200) event.waitUntil(others.put(request, response.clone()).catch(() => {})); // fails if the storage is full
  return response;
}
