// The card of the open model, in a <dialog>: what a person wants to know about it. It comes from the file, so it is shown as text.

import { element } from "./elements.js";

const LONGEST_CHIP = 40; // characters
const CELLS = new Map([["gru", "GRU"], ["simple_rnn", "SimpleRNN"], ["lstm", "LSTM"]]);
const IS_DATE = /^\d{4}-\d\d-\d\d$/;

/**
 * What is known of a model: the card and the configuration of its file, its vocabulary, and the name and the size of the file.
 * @typedef {object} Known
 * @property {object} card
 * @property {object} config
 * @property {{tokens: string[], reserved: Set<number>, level: string}} vocabulary
 * @property {string} name
 * @property {number} bytes
 */

/**
 * Returns the short text of the button that opens the card: the model's name, and what it was trained on.
 * @param {object} card
 * @param {string} name that of the file
 * @returns {string}
 */
export function chipText(card, name) {
  const title = titleOf(card, name);
  const { corpus } = card;
  const isNew = isText(corpus) && !title.toLowerCase().includes(corpus.toLowerCase());
  return shortened(isNew ? `${title} · ${corpus}` : title);
}

/**
 * Fills an empty or filled <dialog> with the card, or with a heading alone if `known` is null. The caller opens it with `showModal`,
 * so that Esc closes it and the focus returns.
 * @param {HTMLDialogElement} dialog
 * @param {Known | null} known
 */
export function fillCard(dialog, known) {
  const title = known ? titleOf(known.card, known.name) : "No model is open";
  const heading = element("h2", { id: `${dialog.id || "card"}-title` }, [title]);
  const close = element("button", { type: "button", onclick: () => dialog.close() }, ["Close"]);
  const rows = (known ? cardRows(known) : []).flatMap(([label, value]) => [element("dt", {}, [label]), element("dd", {}, [value])]);
  dialog.setAttribute("aria-labelledby", heading.id);
  dialog.setAttribute("closedby", "any"); // a click beside it; older browsers ignore this
  dialog.replaceChildren(element("header", {}, [heading, close]), element("dl", {}, rows));
}

/**
 * Returns the rows of the card: labels and texts. What the file does not say is left out; what has no label here has its own name.
 * @param {Known} known
 * @returns {[string, string][]}
 */
export function cardRows({ card, config, vocabulary, name, bytes }) {
  const { name: _, corpus, nats_per_token, held_out_from, measured_on, cell, units, parameters, quantization, ...rest } = card;
  const { date, license, versions, ...others } = rest;
  const unit = vocabulary.level === "char" ? "character" : "word";
  const rows = [
    ["Trained on", shown(corpus)],
    ["Held-out text", heldOut({ nats_per_token, held_out_from, measured_on, corpus }, unit)],
    ["Network", network(cell, units)],
    ["Parameters", shown(parameters)],
    ["Vocabulary", counted(vocabulary.tokens.length - vocabulary.reserved.size, unit)],
    ["Writes", config.by_line ? "line by line" : ""],
    ["Size", size(bytes, quantization)],
    ["Made", dated(date)],
    ["Made with", shown(versions)],
    ["Licence", shown(license)],
    ["File", name],
    ...Object.entries(others).map(([key, value]) => [key, shown(value)]),
  ];
  return rows.filter(([, text]) => text !== "");
}

function isText(value) {
  return typeof value === "string" && value.trim() !== "";
}

function titleOf(card, name) {
  return isText(card.name) ? card.name : name.replace(/\.tflite$/i, "");
}

function shortened(text) {
  const characters = [...text];
  return characters.length > LONGEST_CHIP ? `${characters.slice(0, LONGEST_CHIP - 1).join("")}…` : text;
}

/** Returns any value of JSON as a text for people; "" for none. */
function shown(value) {
  if (value === undefined || value === null) return "";
  if (typeof value === "number") return value.toLocaleString("en", { maximumFractionDigits: 6 });
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "string") return value.trim();
  const isList = Array.isArray(value);
  const parts = Object.entries(value).map(([key, part]) => (isList ? shown(part) : `${key} ${shown(part)}`));
  return parts.join(", ");
}

function counted(count, unit) {
  return `${count.toLocaleString("en")} ${unit}${count === 1 ? "" : "s"}`;
}

/** Returns how well the model predicts text that it was not trained on, such as "4.30 nats per word (7,680 held-out words)". */
function heldOut({ nats_per_token: nats, held_out_from: source, measured_on: measured, corpus }, unit) {
  const value = typeof nats === "number" ? `${nats.toFixed(2)} nats per ${unit}` : shown(nats);
  const inUnits = isText(measured) ? measured.replace(/\btokens\b/, `${unit}s`) : shown(measured);
  const about = [source === corpus ? "" : shown(source), inUnits].filter(Boolean).join(": ");
  return value && about ? `${value} (${about})` : value || about;
}

/** Returns what the network is, such as "GRU, 256 units" or "GRU, 2 layers of 256 and 128 units". */
function network(cell, units) {
  const kind = CELLS.get(cell) ?? shown(cell);
  const isList = Array.isArray(units) && units.length > 0;
  const sizes = isList ? units.map(shown).join(" and ") : shown(units);
  const layers = isList && units.length > 1 ? `${units.length} layers of ` : "";
  return [kind, sizes && `${layers}${sizes} units`].filter(Boolean).join(", ");
}

function size(bytes, quantization) {
  const megabytes = `${(bytes / 1e6).toLocaleString("en", { maximumFractionDigits: bytes < 1e5 ? 3 : 1 })} MB`;
  const kind = quantization === "none" ? "float32" : shown(quantization);
  return kind ? `${megabytes} (${kind})` : megabytes;
}

/** Returns a date such as 2026-11-29 as "29 November 2026"; any other value as it is. */
function dated(date) {
  const day = IS_DATE.test(date) ? new Date(date) : null;
  if (day === null || Number.isNaN(day.getTime())) return shown(date);
  return day.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric", timeZone: "UTC" });
}
