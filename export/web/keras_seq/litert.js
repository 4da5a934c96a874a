// Loads LiteRT.js with its wasm, once for all models: in a page, in a module worker, or in Node.

import { getGlobalLiteRtPromise, loadLiteRt, supportsFeature } from "@litertjs/core";

let loading;

/**
 * Loads LiteRT.js. `folder` is the address of its wasm, with a slash at its end. In a worker, `progress(loaded, total)` is called
 * while the wasm loads.
 */
export function loadFrom(folder, progress) {
  loading ??= load(folder, progress).catch((error) => {
    loading = undefined; // lets the next call try again
    const advice = "check the network, and that this is a copy of node_modules/@litertjs/core/wasm, or give `wasm`";
    throw new Error(`LiteRT.js cannot be loaded from ${folder}: ${advice}.`, { cause: error });
  });
  return loading;
}

function load(folder, progress) {
  const already = getGlobalLiteRtPromise(); // by the app itself
  if (already) return already;
  return globalThis.document ? loadLiteRt(folder) : loadWithoutDocument(folder, progress);
}

/**
 * LiteRT.js starts its wasm with a script element, or with importScripts, which module workers and Node lack. Here the script is
 * loaded beforehand, and importScripts does nothing.
 */
async function loadWithoutDocument(folder, progress) {
  const name = await runtimeIn(folder);
  const replaced = { self: globalThis, importScripts() {}, Module: { locateFile: (file) => folder + file, printErr } };
  let failed; // if the wasm cannot be instantiated, of which LiteRT.js is not told
  if (globalThis.process?.versions?.node) {
    replaced.ModuleFactory = requiredIn(folder, `${name}.js`);
  } else {
    const [factory, wasm] = await Promise.all([importedAsAmd(`${name}.js`), compiled(`${name}.wasm`, progress)]);
    replaced.ModuleFactory = factory;
    failed = new Promise((_, fail) => {
      replaced.Module.instantiateWasm = (imports, receive) => void WebAssembly.instantiate(wasm, imports).then(receive, fail);
    });
  }
  const before = Object.keys(replaced).map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name)]);
  for (const [name, value] of Object.entries(replaced)) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  }
  try {
    return await Promise.race([loadLiteRt(`${name}.js`), failed].filter(Boolean));
  } finally {
    for (const [name, own] of before) {
      if (own) Object.defineProperty(globalThis, name, own);
      else delete globalThis[name];
    }
  }
}

/** Returns the address of the wasm for this browser, without its ending; the script that starts it has the same name. */
export async function runtimeIn(folder) {
  const isRelaxed = await supportsFeature("relaxedSimd"); // not in Node 20
  return `${folder}litert_wasm_${isRelaxed ? "" : "compat_"}internal`;
}

/** Fetches and compiles the wasm at the same time, and calls `progress(loaded, total)` meanwhile; the total is 0 if it is not known. */
async function compiled(address, progress) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  if (progress) report(response.clone(), progress).catch(() => {}); // The other half of the response fails too.
  const isWasm = response.headers.get("Content-Type") === "application/wasm";
  return isWasm ? WebAssembly.compileStreaming(response) : WebAssembly.compile(await response.arrayBuffer());
}

async function report(response, progress) {
  const isPacked = response.headers.has("Content-Encoding"); // Its length is that of the packed bytes.
  const total = isPacked ? 0 : Number(response.headers.get("Content-Length"));
  const reader = response.body.getReader();
  let loaded = 0;
  for (let read = await reader.read(); !read.done; read = await reader.read()) progress((loaded += read.value.length), total);
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
