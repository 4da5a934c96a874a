// The cells that the tables of the comparison share.

import { numberOf } from "./compare_sentence.js";
import { element } from "./elements.js";

export function cell(children, className = "") {
  return element("td", { className }, children);
}

/** Returns the first cell of a row: the word. The subject and the nouns of the other number after it are marked. */
export function wordCell(word, index, subject) {
  const shown = element("span", {}, [word.trim() || JSON.stringify(word)]);
  if (subject?.position === index) shown.className = "subject";
  else if (subject && index > subject.position && ![null, subject.number].includes(numberOf(word))) shown.className = "other";
  return element("th", { scope: "row" }, [shown]);
}
