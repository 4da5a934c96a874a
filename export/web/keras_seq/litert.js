// Loads LiteRT.js with its wasm, once for all models: in a page, in a module worker, or in Node.

import { getGlobalLiteRtPromise, loadLiteRt } from "@litertjs/core";
import { compiledWasm, notLoaded, wasmIn } from "./wasm.js";

let loading;

/**
 * Loads LiteRT.js. `folder` is the address of its wasm, with a slash at its end. In a worker, `wasm` may be a promise of the compiled
 * wasm of this folder.
 */
export function loadFrom(folder, wasm) {
  loading ??= load(folder, wasm).catch((error) => {
    loading = undefined; // lets the next call try again
    throw notLoaded(folder, error);
  });
  return loading;
}

function load(folder, wasm) {
  const already = getGlobalLiteRtPromise(); // by the app itself
  if (already) return already;
  return globalThis.document ? loadLiteRt(folder) : loadWithoutDocument(folder, wasm);
}

/**
 * LiteRT.js starts its wasm with a script element, or with importScripts, which module workers and Node lack. Here the script is
 * loaded beforehand, and importScripts does nothing.
 */
async function loadWithoutDocument(folder, wasm) {
  const script = `${wasmIn(folder)}.js`;
  const replaced = { self: globalThis, importScripts() {}, Module: { locateFile: (file) => folder + file, printErr } };
  let failed; // rejects if the wasm cannot be instantiated, of which LiteRT.js is not told
  if (globalThis.process?.versions?.node) {
    replaced.ModuleFactory = requiredIn(folder, script);
  } else {
    const [factory, compiled] = await Promise.all([importedAsAmd(script), wasm ?? compiledWasm(folder)]);
    replaced.ModuleFactory = factory;
    failed = new Promise((_, fail) => {
      replaced.Module.instantiateWasm = (imports, receive) => void WebAssembly.instantiate(compiled, imports).then(receive, fail);
    });
  }
  const before = Object.keys(replaced).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(replaced)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  }
  try {
    return await Promise.race([loadLiteRt(script), failed].filter(Boolean));
  } finally {
    for (const [name, own] of before) {
      if (own) Object.defineProperty(globalThis, name, own);
      else delete globalThis[name];
    }
  }
}

/** Prints what the wasm prints, without what it does as always. */
function printErr(line) {
  if (!line.startsWith("INFO: ")) console.error(line);
}

/** Returns what the script gives to a loader of AMD modules, such as this one. */
async function importedAsAmd(script) {
  const before = globalThis.define;
  let factory;
  globalThis.define = Object.assign((names, make) => (factory = make()), { amd: true });
  try {
    await import(/* @vite-ignore */ /* webpackIgnore: true */ script);
  } finally {
    globalThis.define = before;
  }
  return factory;
}

/** Returns the exports of the script as a CommonJS module; by its place it would be an ES module. */
function requiredIn(folder, script) {
  const { createRequire } = process.getBuiltinModule("node:module");
  const require = createRequire(script);
  const [fs, vm, { fileURLToPath }] = ["node:fs", "node:vm", "node:url"].map((name) => require(name));
  const file = fileURLToPath(script);
  const names = ["exports", "module", "require", "__filename", "__dirname"];
  const module = { exports: {} };
  const run = vm.compileFunction(fs.readFileSync(file, "utf8"), names, { filename: file });
  run(module.exports, module, require, file, fileURLToPath(folder));
  return module.exports;
}
