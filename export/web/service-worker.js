// Keeps the page, so that it opens at once and without a network.
//
// files.json has the SHA-256 of each file of the page. Each visit asks for it. If it has changed, the changed files are fetched, and
// the new list is used when all of them have arrived, so all that a visit loads at its start is of one version. If another page brings
// a newer version meanwhile, what this page loads later (the worker, when a model is opened) is of the newer one. All else, such as
// models, is asked for each time; without a network, the copy that was kept is the answer.

const PREFIX = "keras_seq-"; // of all its caches; several pages may share the caches of an origin
const SCOPE = self.registration.scope;
const PAGE = `${PREFIX}2 page ${SCOPE}`; // the page's files: keys are their addresses with their SHA-256
const OTHERS = `${PREFIX}2 others ${SCOPE}`; // models and models.json: keys are their addresses
const MOST_OTHERS = 8;
const LIST = new URL("files.json", SCOPE).href;
const LONGEST_WAIT = 3000; // milliseconds for a new version, after which the visit uses the kept one
const IS_RUNTIME = /\/wasm\/[^/]*$/; // LiteRT.js: 9 MB for each kind of browser, so only what the page asks for

self.addEventListener("install", (event) => {
  self.skipWaiting();
  event.waitUntil(update());
});

self.addEventListener("activate", (event) => event.waitUntil(dropOld()));

/** Deletes the caches of this page from earlier versions of this script. */
async function dropOld() {
  const isOwn = (name) => name === `${PREFIX}1` || (name.startsWith(PREFIX) && name.endsWith(` ${SCOPE}`));
  const isOld = (name) => isOwn(name) && name !== PAGE && name !== OTHERS;
  await Promise.all((await caches.keys()).filter(isOld).map((name) => caches.delete(name)));
}

// Addresses that the page has fetched before this worker answered its requests.
self.addEventListener("message", (event) => event.waitUntil(Promise.allSettled(event.data.map(keep))));

async function keep(address) {
  const files = await keptFiles();
  if (files.has(address)) return keepFile(await caches.open(PAGE), address, files.get(address));
  await (await caches.open(OTHERS)).add(address);
}

// ---- the page's files ----

/** Returns the SHA-256 of the files, by their addresses, from the text of files.json. */
function filesOf(list) {
  return new Map(Object.entries(JSON.parse(list)).map(([file, hash]) => [new URL(file, SCOPE).href, hash]));
}

let current = null;

/** Returns the files of the version that is kept; none if no version is. */
function keptFiles() {
  current ??= caches.match(LIST, { cacheName: PAGE }).then(async (kept) => (kept ? filesOf(await kept.text()) : new Map()));
  return current;
}

const keyOf = (address, hash) => `${address}?sha256=${hash}`;

let updating = null;

/** Fetches the page's files that have changed, and then uses them. Visits at the same time share one update. */
function update(signal) {
  updating ??= updateNow(signal).finally(() => (updating = null));
  return updating;
}

async function updateNow(signal) {
  const response = await fetch(LIST, { cache: "no-cache", signal });
  if (!response.ok) throw new Error(`${LIST}: ${response.status}`);
  const list = await response.text();
  const files = filesOf(list);
  const cache = await caches.open(PAGE);
  const kept = (await cache.keys()).map(({ url }) => url);
  const wanted = [...files].filter(([address, hash]) => !IS_RUNTIME.test(address) && !kept.includes(keyOf(address, hash)));
  await Promise.all(wanted.map(([address, hash]) => keepFile(cache, address, hash, signal)));
  await cache.put(LIST, new Response(list));
  current = null;
  const keys = new Set([LIST, ...[...files].map(([address, hash]) => keyOf(address, hash))]);
  await Promise.all(kept.filter((key) => !keys.has(key)).map((key) => cache.delete(key)));
}

/** Fetches a file, and keeps it if it is the one that files.json means: a cache on the way may still have the one before. */
async function keepFile(cache, address, hash, signal) {
  const key = keyOf(address, hash);
  if (await cache.match(key)) return;
  const response = await fetch(address, { cache: "no-cache", signal });
  const content = await response.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
  const found = [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== hash) throw new Error(`${address} is not the file that files.json means.`);
  await cache.put(key, new Response(content, { headers: response.headers })); // A navigation refuses the answer of a redirect.
}

// ---- answers ----

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(answer(event));
});

async function answer(event) {
  const { request } = event;
  if (request.mode === "navigate") await update(AbortSignal.timeout(LONGEST_WAIT)).catch(() => {}); // off-line, or too slow
  const { origin, pathname } = new URL(request.url);
  const address = origin + pathname === SCOPE ? `${SCOPE}index.html` : origin + pathname;
  const files = await keptFiles();
  if (!files.has(address)) return networkFirst(event);
  const cache = await caches.open(PAGE);
  const kept = await cache.match(keyOf(address, files.get(address)));
  if (kept) return kept;
  event.waitUntil(keepFile(cache, address, files.get(address)).catch(() => {})); // the runtime, from the browser's own cache
  return fetch(request);
}

async function networkFirst(event) {
  const { request } = event;
  let response;
  try {
    response = await fetch(request);
  } catch (error) {
    const kept = await caches.match(request, { cacheName: OTHERS });
    if (kept) return kept;
    throw error;
  }
  if (response.status === 200) event.waitUntil(keepOther(request, response.clone()).catch(() => {})); // fails if the storage is full
  return response;
}

/** Keeps an answer, and deletes the oldest ones. */
async function keepOther(request, response) {
  const others = await caches.open(OTHERS);
  await others.put(request, response);
  const keys = await others.keys(); // from the oldest to the newest
  await Promise.all(keys.slice(0, -MOST_OTHERS).map((key) => others.delete(key)));
}
