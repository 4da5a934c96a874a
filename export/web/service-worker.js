// Keeps what the page has fetched, so that it opens without a network: the network's answer first, then the kept one.

const PREFIX = "keras_seq-"; // The caches of an origin may be of several pages.
const KEPT = `${PREFIX}1`;

self.addEventListener("install", () => self.skipWaiting());

self.addEventListener("activate", (event) => {
  event.waitUntil(Promise.all([dropOld(), self.clients.claim()]));
});

async function dropOld() {
  const old = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== KEPT);
  await Promise.all(old.map((name) => caches.delete(name)));
}

// What the page had fetched before this worker was there.
self.addEventListener("message", (event) => {
  event.waitUntil(caches.open(KEPT).then((cache) => Promise.allSettled(event.data.map((address) => cache.add(address)))));
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  if (request.method === "GET" && new URL(request.url).origin === location.origin) event.respondWith(answer(event));
});

async function answer(event) {
  // The page is the same whichever model its address names.
  const place = event.request.mode === "navigate" ? new URL("./", location.href).href : event.request;
  const cache = await caches.open(KEPT);
  let response;
  try {
    response = await fetch(event.request);
  } catch (error) {
    const kept = await cache.match(place);
    if (kept) return kept;
    throw error;
  }
  if (response.ok) event.waitUntil(cache.put(place, response.clone()).catch(() => {})); // where there is room
  return response;
}
