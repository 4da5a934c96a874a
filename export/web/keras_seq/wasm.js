// The wasm of LiteRT.js: where it lies, which one a browser can run, and how it is compiled while it loads.

// A module with an instruction of relaxed SIMD.
const RELAXED = "AGFzbQEAAAABBQFgAAF7AwIBAAoPAQ0AQQH9D0EC/Q/9gAIL";

/** Returns the address to which others are relative: that of the page or of the worker; undefined in Node. */
export function here() {
  return globalThis.document?.baseURI ?? globalThis.location?.href;
}

/** Returns the address of a folder, absolute and with a slash at its end; without `wasm`, that of the package @litertjs/core. */
export function wasmFolder(wasm) {
  if (wasm !== undefined) return `${new URL(wasm, here()).href.replace(/\/$/, "")}/`;
  try {
    // Node and pages with an import map know where the package lies. In a bundle this throws.
    return new URL("../wasm/", import.meta.resolve("@litertjs/core")).href;
  } catch {
    return new URL("wasm/", here()).href;
  }
}

/** Returns the address of the wasm that is used, and of its script, without the ending. */
export function wasmIn(folder) {
  const isRelaxed = WebAssembly.validate(Uint8Array.from(atob(RELAXED), (byte) => byte.charCodeAt(0))); // not in Node 20
  return `${folder}litert_wasm_${isRelaxed ? "" : "compat_"}internal`;
}

/** Returns the error of a folder from which LiteRT.js cannot be loaded. */
export function notLoaded(folder, error) {
  const advice = "check the network, and that this is a copy of node_modules/@litertjs/core/wasm, or give `wasm`";
  return new Error(`LiteRT.js cannot be loaded from ${folder}: ${advice}.`, { cause: error });
}

/**
 * Returns the wasm in a folder, which is compiled while it loads. `progress(loaded, total)` is called meanwhile, with bytes; the total
 * is 0 if it is not known.
 */
export async function compiledWasm(folder, progress) {
  try {
    const response = await fetch(`${wasmIn(folder)}.wasm`);
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
    // Only a response as it came, not one that is read here, has compiled code in the browser's cache. Hence a clone is counted.
    if (progress) report(response.clone(), progress).catch(() => {}); // fails if the response fails
    const isWasm = response.headers.get("Content-Type") === "application/wasm";
    return await (isWasm ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer()));
  } catch (error) {
    throw notLoaded(folder, error);
  }
}

async function report(response, progress) {
  const isPacked = response.headers.has("Content-Encoding"); // Its length is that of the packed bytes.
  const total = isPacked ? 0 : Number(response.headers.get("Content-Length"));
  const reader = response.body.getReader();
  let loaded = 0;
  for (let read = await reader.read(); !read.done; read = await reader.read()) progress((loaded += read.value.length), total);
}
