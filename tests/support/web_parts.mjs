// Runs page/share.js and page/card.js without a browser, for tests/export/web/test_page_parts.py: JSON in, JSON out.
import { readFileSync } from "node:fs";
import { Vocabulary } from "../../export/web/keras_seq/vocabulary.js";
import { cardRows, chipText } from "../../export/web/page/card.js";
import { isLocal, linkTo, otherModel, readLink } from "../../export/web/page/share.js";

function valueOrError(compute) {
  try {
    return compute();
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
}

/** JSON has no BigInt: a seed is a text there. */
const fromJson = (shared) => ({ ...shared, seed: BigInt(shared.seed) });
const toJson = (shared) => (shared?.seed === undefined ? shared : { ...shared, seed: String(shared.seed) });

const tasks = {
  links: ([address, all]) => all.map((shared) => valueOrError(() => linkTo(address, fromJson(shared)))),
  read: (hashes) => hashes.map((hash) => valueOrError(() => toJson(readLink(hash)))),
  /** Each code unit of a prompt is a number here, because JSON for Python holds no lone surrogates. */
  roundTrips: (all) =>
    all.map((units) =>
      valueOrError(() => {
        const prompt = String.fromCharCode(...units);
        const settings = { temperature: 1, top_k: 0, top_p: 1, min_p: 0 };
        const shared = { prompt, seed: 1n, settings, maxTokens: 1, model: { name: prompt, sha256: "0".repeat(64) } };
        const link = linkTo("https://example.org/", shared);
        const read = readLink(new URL(link).hash);
        return /^[!-~]*$/.test(link) && [read.prompt, read.model.name].every((text) => text === prompt);
      }),
    ),
  others: (pairs) => pairs.map(([linked, open]) => otherModel(linked, open)),
  local: (addresses) => addresses.map(isLocal),
  cards: (all) => all.map(({ vocabulary, ...known }) => cardRows({ ...known, vocabulary: new Vocabulary(vocabulary) })),
  chips: (all) => all.map(([card, name]) => chipText(card, name)),
};
const [task, given] = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(tasks[task](given)));
