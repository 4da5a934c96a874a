// Caches what the page has fetched, so that it opens without a network: the network first, then the cache.

const PREFIX = "keras_seq-"; // Several pages may share the caches of an origin.
const CACHE = `${PREFIX}1`;

self.addEventListener("install", () => self.skipWaiting());

self.addEventListener("activate", (event) => {
  event.waitUntil(Promise.all([dropOld(), self.clients.claim()]));
});

async function dropOld() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

// Addresses that the page had fetched before this worker was active.
self.addEventListener("message", (event) => {
  event.waitUntil(caches.open(CACHE).then((cache) => Promise.allSettled(event.data.map((address) => cache.add(address)))));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(answer(event));
});

async function answer(event) {
  // The page is the same for every model in its address.
  const key = event.request.mode === "navigate" ? new URL("./", location.href).href : event.request;
  const cache = await caches.open(CACHE);
  let response;
  try {
    response = await fetch(event.request);
  } catch (error) {
    const cached = await cache.match(key);
    if (cached) return cached;
    throw error;
  }
  if (response.ok) event.waitUntil(cache.put(key, response.clone()).catch(() => {})); // fails if the storage is full
  return response;
}
