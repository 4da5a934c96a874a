// What a model remembers of the subject: it reads the sentence twice, with the subject for one and for several.
//
// One reading proves little. A model that has forgotten the subject still expects one of two verbs, and is right half of the time.
// All other words are the same in both readings, so only the subject can make the answers differ.

import { element, percent } from "./elements.js";

// The difference of P(was) between both readings, in points: percents as the page shows them. Above 50, each subject must get its own
// verb: P(was) is above 50 % in one reading and below 50 % in the other. Below 10, the answer is as good as the same.
const REMEMBERS = 50;
const FORGOTTEN = 10;

/** What is said of each result of `memoryOf`. */
const SAID = {
  remembers: "✓ it remembers the subject",
  partly: "it remembers the subject in part",
  forgotten: "✗ it has forgotten the subject",
  reversed: "✗ the wrong way round",
};

/**
 * Returns what a model remembers of the subject, from what it expects (`expected`) with the subject for one and for several.
 * @returns {"remembers" | "partly" | "forgotten" | "reversed"}
 */
export function memoryOf(singular, plural) {
  const points = ({ ofPlural }) => Math.round(100 * ofPlural);
  const difference = points(plural) - points(singular); // that of P(was) too: P(was) + P(were) = 1
  if (difference > REMEMBERS) return "remembers";
  if (difference >= FORGOTTEN) return "partly";
  return difference > -FORGOTTEN ? "forgotten" : "reversed";
}

/** Returns both readings, that of the singular first. */
export function inOrder(subject, reading, other) {
  return subject.number === "singular" ? [reading, other] : [other, reading];
}

const quoted = (text) => element("q", {}, [text]);
const withVerb = ({ verb, share }) => [quoted(verb), ` with ${percent(share)}`];

/** Returns what a model expects at the end with each subject, in a sentence. */
export function verdict(name, reading, other, subject) {
  if (!other) return element("p", {}, [`The ${name} expects `, ...withVerb(reading), "."]);
  const [singular, plural] = inOrder(subject, reading, other);
  const [one, several] = inOrder(subject, subject.word, subject.other).map(quoted);
  const second = singular.verb === plural.verb ? [`with ${percent(plural.share)}`] : withVerb(plural);
  const memory = memoryOf(singular, plural);
  const same = singular.verb === plural.verb && percent(singular.share) === percent(plural.share) ? "the same answer to both; " : "";
  return element("p", { className: memory }, [
    `The ${name} expects `, ...withVerb(singular), " for ", one, " and ", ...second, " for ", several, `: ${same}`,
    element("strong", {}, [SAID[memory]]), ".",
  ]);
}

/** Returns how the verdicts are found, in plain words. */
export function rule(subject, verbs, hasOther) {
  if (!subject) return ["The sentence is read once: it has no noun such as ", quoted("cat"), " or ", quoted("cats"), "."];
  if (!hasOther) return ["The sentence is read once: the models do not both know ", quoted(subject.other), "."];
  const [one, several] = inOrder(subject, subject.word, subject.other).map(quoted);
  return [
    "Each model reads the sentence twice, with ", one, " and with ", several, "; all other words stay the same. ",
    "By how many points does its percentage for ", quoted(verbs.singular), " differ? ",
    `More than ${REMEMBERS}: it remembers. ${FORGOTTEN} to ${REMEMBERS}: in part. `,
    `Less than ${FORGOTTEN}: forgotten, even where its verb is right by chance.`,
  ];
}
