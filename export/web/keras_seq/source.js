// The bytes of a model, wherever it is.

import { LARGEST_FILE } from "./bundle.js";
import { requireOption } from "./options.js";
import { here } from "./wasm.js";

/** A source of a model as bytes: an address, which is fetched, or bytes. */
export async function bytesOf(source) {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return bytesOfBlob(source);
  const isAddress = source instanceof URL || typeof source === "string";
  requireOption("the model", "an address, a Uint8Array, an ArrayBuffer or a Blob", isAddress, source);
  let response;
  try {
    response = await fetch(source);
  } catch (error) {
    const isFile = here() === undefined && !/^https?:/.test(source);
    const noAnswer = `there is no answer; check the connection (${error.message})`;
    const reason = isFile ? "in Node, give the bytes of the file: readFileSync(path)" : noAnswer;
    throw new Error(`${source} cannot be loaded: ${reason}`, { cause: error });
  }
  if (!response.ok) throw new Error(`${source} cannot be loaded: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

async function bytesOfBlob(blob) {
  const name = blob.name ?? "The file";
  if (blob.size > LARGEST_FILE) {
    const size = (blob.size / 2 ** 30).toFixed(1);
    throw new Error(`${name} is too large: a .tflite has at most 2 GiB, and this file has ${size} GiB.`);
  }
  try {
    return new Uint8Array(await blob.arrayBuffer());
  } catch (error) {
    const reason = "it is a folder, or it was changed, moved or deleted after it was chosen. Choose the file again";
    throw new Error(`${name} cannot be read: ${reason}.`, { cause: error });
  }
}
