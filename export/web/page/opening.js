// How the page comes to a model: a file that the user chooses or drops, an address, or the page's own model.
//
// Here is checked what only the page knows: whether it is one file, and from where. `KerasSeqWorker.load` checks the file itself.

const MODELS = "models.json";
const OVER = "over"; // class of <body> while a file is held over the page
const MOST_NAMED = 3; // files in an error

/**
 * Lets the user open a file: by a button, or by dropping it anywhere on the page. While a file is held over the page, <body> has the
 * class "over". A text that is dropped into a field stays a matter of that field.
 * @param {object} options
 * @param {HTMLElement} options.button a click on it opens the browser's dialog for files
 * @param {(file: File) => void} options.onFile gets the file, which has not been read yet
 * @param {(error: Error) => void} options.onError gets an error with a sentence if it was not one file
 */
export function listenForFiles({ button, onFile, onError }) {
  const give = (compute) => {
    let file;
    try {
      file = compute();
    } catch (error) {
      return onError(error);
    }
    onFile(file);
  };
  const input = fileInput(button);
  input.addEventListener("change", () => {
    const files = [...input.files];
    input.value = ""; // lets the same file be chosen again
    if (files.length) give(() => oneOf(files)); // none if the user cancelled the dialog
  });
  listenForDrops((data) => give(() => droppedFile(data)));
}

/** Returns an input for files that a button opens. It takes files of any name: phones do not know the type of a .tflite. */
function fileInput(button) {
  const input = document.createElement("input");
  input.type = "file";
  input.id = "file";
  input.hidden = true;
  button.after(input);
  button.addEventListener("click", () => input.click());
  return input;
}

function listenForDrops(onDrop) {
  const { classList } = document.body;
  addEventListener("dragover", (event) => {
    if (isForField(event)) return;
    event.preventDefault();
    classList.toggle(OVER, hasFiles(event));
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && classList.remove(OVER));
  addEventListener("drop", (event) => {
    classList.remove(OVER);
    if (isForField(event)) return;
    event.preventDefault(); // otherwise the browser leaves the page for the file, or for an address that was dropped
    onDrop(event.dataTransfer);
  });
}

function hasFiles({ dataTransfer }) {
  return dataTransfer.types.includes("Files");
}

/** Whether a text is dropped into a field. */
function isForField(event) {
  return !hasFiles(event) && event.target.closest?.("textarea, input, [contenteditable]") !== null;
}

/** Returns the file that was dropped. Folders are recognized now: after the event, the browser says no more about them. */
function droppedFile(data) {
  if (!data.types.includes("Files")) {
    throw new Error("This is a text, not a file. Drop a .tflite file here, or the text into the text field.");
  }
  const folder = [...data.items].map((item) => item.webkitGetAsEntry?.()).find((entry) => entry?.isDirectory);
  if (folder) throw new Error(`${folder.name} is a folder. Drop the .tflite file that is in it.`);
  return oneOf([...data.files]);
}

function oneOf(files) {
  if (files.length === 1) return files[0];
  if (!files.length) throw new Error("No file arrived. Save the .tflite file in a folder, and open it from there.");
  const named = files.slice(0, MOST_NAMED).map(({ name }) => name).join(", ");
  const more = files.length > MOST_NAMED ? `, and ${files.length - MOST_NAMED} more` : "";
  throw new Error(`These are ${files.length} files (${named}${more}). Open one .tflite file at a time.`);
}

/**
 * Returns the name and the address of the model that an address names, relative to the page. Nothing is fetched here.
 * @param {string} address
 * @returns {{name: string, source: string}}
 * @throws {Error} it is no address of a file, or one of another origin
 */
export function modelAt(address) {
  const expected = "Give the address of a .tflite file of this page, such as ?model=models/NAME.tflite.";
  if (!URL.canParse(address, location.href)) throw new Error(`${address} is not an address. ${expected}`);
  const { href, origin, pathname } = new URL(address, location.href);
  if (origin !== location.origin) throw new Error(`This page opens files from its own address only, not from ${origin}.`);
  const name = decoded(pathname.split("/").pop());
  if (!name) throw new Error(`${JSON.stringify(address)} names no file. ${expected}`);
  return { name, source: href };
}

function decoded(name) {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // It has a % that encodes nothing.
  }
}

/**
 * Returns what models.json of the page names: the model to open, null if there is none, and the models to compare, as `modelAt`.
 * @returns {Promise<{open: {name: string, source: string} | null, compare: {name: string, source: string}[]}>}
 * @throws {Error} models.json cannot be loaded, or is damaged
 */
export async function listedModels() {
  let response;
  try {
    response = await fetch(MODELS);
  } catch (error) {
    throw new Error(`The list of models (${MODELS}) cannot be loaded: check the network, and reload the page.`, { cause: error });
  }
  const advice = "Serve the page with keras-seq web";
  if (!response.ok) {
    throw new Error(`The list of models (${MODELS}) cannot be loaded: ${response.status} ${response.statusText}. ${advice}.`);
  }
  const listed = await response.json().catch(() => null);
  const { open = null, compare = [] } = listed ?? {};
  const areAddresses = Array.isArray(compare) && [...compare, open ?? ""].every((one) => typeof one === "string");
  if (listed === null || !areAddresses) throw new Error(`The list of models (${MODELS}) is damaged. ${advice}.`);
  return { open: open === null ? null : modelAt(open), compare: compare.map(modelAt) };
}
