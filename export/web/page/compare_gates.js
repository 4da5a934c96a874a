// The update gate of a GRU over a sentence: one row per word, one column per unit, for the units that keep the subject best.

import { cell, wordCell } from "./compare_table.js";
import { element, percent } from "./elements.js";

const SHOWN = 16; // units, as in the picture of keras-seq demo

/**
 * Returns how much of what each unit wrote into its memory at one word is still there after the last word, from 0 to 1: it wrote the
 * fraction Γu, and each later word keeps 1 - Γu of it. This is exact, since c' = Γu * c~ + (1 - Γu) * c.
 * @param {Float32Array[]} gates Γu of the units after each word
 * @param {number} position of the word
 */
function kept(gates, position) {
  return Float64Array.from(gates[position], (written, unit) =>
    gates.slice(position + 1).reduce((left, gate) => left * (1 - gate[unit]), written),
  );
}

/** Returns the units to show, those first that keep the word best; without a word, those whose gate is the smallest. */
export function unitsToShow(gates, position) {
  const middle = (unit) => gates.map((gate) => gate[unit]).sort((one, other) => one - other)[gates.length >> 1];
  const score = position === null ? gates[0].map((_, unit) => -middle(unit)) : kept(gates, position);
  return [...gates[0].keys()].sort((one, other) => score[other] - score[one] || one - other).slice(0, SHOWN);
}

const two = (value) => value.toFixed(2);

/** Returns the table of a sentence: word, mean of the gates that are shown, and the gates. */
export function gateTable(words, subject, gates, units) {
  const head = element("tr", {}, [
    element("th", { scope: "col" }, ["Word"]),
    element("th", { scope: "col" }, ["Mean"]),
    element("th", { scope: "col" }, [`${units.length} of ${gates[0].length} units`, scale()]),
  ]);
  const rows = words.map((word, index) => {
    const values = units.map((unit) => gates[index][unit]);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const number = element("span", { className: "mean" }, [two(mean)]);
    number.style.setProperty("--gate", two(mean));
    return element("tr", { className: index === words.length - 1 ? "last" : "" }, [
      wordCell(word, index, subject),
      cell([number]),
      cell([strip(values, units)], "heat"),
    ]);
  });
  return element("table", { className: "gates" }, [element("thead", {}, [head]), element("tbody", {}, rows)]);
}

/** Returns the legend of the colours. */
function scale() {
  const ramp = element("span", { className: "ramp", ariaHidden: "true" });
  return element("span", { className: "scale" }, ["0 keeps ", ramp, " 1 replaces"]);
}

/** Returns a row of coloured cells. They are a picture: the mean beside them says the same in a number. */
function strip(values, units) {
  const cells = values.map((value, index) => {
    const made = element("i", { title: `unit ${units[index]}: ${two(value)}` });
    made.style.setProperty("--gate", value.toFixed(3));
    return made;
  });
  const range = `from ${two(Math.min(...values))} to ${two(Math.max(...values))}`;
  return element("div", { className: "strip", role: "img", ariaLabel: range }, cells);
}

/** Returns what is seen in the table, in sentences. */
export function gateCaption(words, subject, gates, units) {
  const gate = "Γu is the update gate: 0 keeps the memory of a unit, 1 replaces it. ";
  if (subject === null) return `${gate}Each column is a unit; those that keep their memory longest come first.`;
  const left = kept(gates, subject.position);
  const best = units[0];
  const holding = left.filter((one) => one > 0.5).length;
  const later = words.length - 1 - subject.position;
  const first = `Each column is a unit; those that keep “${subject.word}” best come first. `;
  if (!later) return `${gate}${first}The verb follows at once: nothing has to be kept.`;
  const many = `${holding} of ${left.length} units ${holding === 1 ? "holds" : "hold"} more than half of it`;
  const wrote = `Unit ${best} wrote ${two(gates[subject.position][best])} at “${subject.word}”`;
  return `${gate}${first}${wrote} and still holds ${percent(left[best])} of that word after ${later} more words and commas; ${many}.`;
}
