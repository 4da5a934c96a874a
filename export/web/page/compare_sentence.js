// Sentences of the agreement grammar, in one of its shapes, and the subject of a sentence.
//
// The words are those of keras_seq/data/agreement.py, whose sentences have many shapes. Here the nouns between subject and verb
// always have the other number, which misleads a model the most, and the distances are those of this one shape.

import { uniforms } from "../keras_seq/random.js";

const ANIMALS = { cat: "cats", dog: "dogs", bird: "birds", horse: "horses", duck: "ducks", boy: "boys" };
const FOODS = { apple: "apples", cake: "cakes", nut: "nuts" };
const PLACES = { tree: "trees", river: "rivers", house: "houses", table: "tables" };
const ADJECTIVES = ["old", "small", "red", "young", "big"];
const PREPOSITIONS = ["near", "under", "behind", "beside"];
const CLAUSES = [
  [["saw", "heard", "liked", "followed", "found"], ANIMALS],
  [["ate", "stole", "saw", "liked", "found"], FOODS],
];
const DRAWS = 40; // choices in a sentence, at most

/** The plural of each noun. */
export const PLURALS = { ...ANIMALS, ...FOODS, ...PLACES };

const SINGULARS = Object.fromEntries(Object.entries(PLURALS).map(([one, several]) => [several, one]));
const NUMBERS = new Map(Object.entries(PLURALS).flatMap(([one, several]) => [[one, "singular"], [several, "plural"]]));

// What can stand between subject and verb: nothing, `near the trees`, or `, which` and 1 to 5 clauses of six words.
const CLAUSE_WORDS = 6;
const SHAPES = [
  { clauses: 0, words: 0 },
  { clauses: 0, words: 3 },
  ...[1, 2, 3, 4, 5].map((clauses) => ({ clauses, words: 1 + CLAUSE_WORDS * clauses + (clauses > 1 ? 1 : 0) })),
];

/** The numbers of words between subject and verb that a sentence can have. */
export const DISTANCES = SHAPES.map(({ words }) => words);

/**
 * Returns a sentence up to its verb, without the space before it. Sentences with the same seed have the same words, as far as they go:
 * the other number changes all nouns, and a larger distance adds clauses.
 * @param {bigint} seed
 * @param {"singular" | "plural"} number that of the subject
 * @param {number} distance one of `DISTANCES`
 */
export function drawSentence(seed, number, distance) {
  const { clauses, words } = SHAPES[DISTANCES.indexOf(distance)];
  const drawn = uniforms(seed, 0, DRAWS);
  let draws = 0;
  const pick = (choices) => choices[Math.floor(drawn[draws++] * choices.length)];
  const noun = (nouns, isPlural) => {
    const one = pick(Object.keys(nouns));
    return isPlural ? nouns[one] : one;
  };
  const isPlural = number === "plural";
  const place = () => `${pick(PREPOSITIONS)} the ${noun(PLACES, !isPlural)}`;
  const clause = () => {
    const [verbs, nouns] = pick(CLAUSES);
    return `${pick(verbs)} the ${noun(nouns, !isPlural)} ${place()}`;
  };
  const subject = `the ${pick(ADJECTIVES)} ${noun(ANIMALS, isPlural)}`;
  if (!clauses) return words ? `${subject} ${place()}` : subject;
  const all = Array.from({ length: clauses }, clause);
  const last = all.pop();
  return `${subject}, which ${all.length ? `${all.join(", ")} and ${last}` : last},`;
}

/** Returns a text as the grammar spells it: one space between words, none before a comma, and no capitals unless they are known. */
export function tidied(text, hasCapitals) {
  const spaced = text.replace(/\s+/g, " ").replace(/ ?, ?/g, ", ").trim();
  return hasCapitals ? spaced : spaced.toLowerCase();
}

/** Returns the number of a noun of the grammar: "singular", "plural", or null for another word. */
export function numberOf(word) {
  return NUMBERS.get(word.trim().toLowerCase()) ?? null;
}

/** Returns the number of words after the subject; a comma is none. */
export function wordsBetween(words, subject) {
  return words.slice(subject.position + 1).filter((word) => /\p{L}/u.test(word)).length;
}

/**
 * Returns the position and the number of the subject, the first noun of the grammar, and its other form; null if there is none.
 * @param {string[]} words
 * @returns {{position: number, word: string, other: string, number: "singular" | "plural"} | null}
 */
export function subjectOf(words) {
  const position = words.findIndex((word) => numberOf(word) !== null);
  if (position < 0) return null;
  const word = words[position].trim();
  const noun = word.toLowerCase();
  return { position, word, other: PLURALS[noun] ?? SINGULARS[noun], number: numberOf(word) };
}
