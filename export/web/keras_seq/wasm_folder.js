// Where the wasm of LiteRT.js lies.

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
