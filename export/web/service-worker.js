// Keeps what the page has fetched, so that it opens without a network: the network's answer first, then the kept one.

const KEPT = "keras_seq-1";
const PAGE = ["./", "style.css", "app.js", "generation.js", "model.js", "bundle.js", "vocabulary.js", "random.js", "icon.svg",
  "manifest.webmanifest", "node_modules/@litertjs/core/dist/index.js", "node_modules/@litertjs/wasm-utils/dist/index.js"];

self.addEventListener("install", (event) => {
  event.waitUntil(caches.open(KEPT).then((cache) => cache.addAll(PAGE)));
  self.skipWaiting();
});

self.addEventListener("activate", (event) => {
  const old = caches.keys().then((names) => Promise.all(names.filter((name) => name !== KEPT).map((name) => caches.delete(name))));
  event.waitUntil(Promise.all([old, self.clients.claim()]));
});

self.addEventListener("fetch", (event) => {
  if (event.request.method === "GET" && new URL(event.request.url).origin === location.origin) event.respondWith(answer(event.request));
});

async function answer(request) {
  const cache = await caches.open(KEPT);
  try {
    const response = await fetch(request);
    if (response.ok) await cache.put(request, response.clone());
    return response;
  } catch (error) {
    const kept = await cache.match(request, { ignoreSearch: request.mode === "navigate" });
    if (kept) return kept;
    throw error;
  }
}
