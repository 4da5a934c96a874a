// Runs modules of export/web without a browser, for tests/export/web/test_modules.py: JSON in, JSON out.
import { readFileSync } from "node:fs";
import { readBundle } from "../../export/web/bundle.js";
import { threefry, uniform } from "../../export/web/random.js";
import { splitWords, Vocabulary } from "../../export/web/vocabulary.js";

const tasks = {
  random: (pairs) => pairs.map(([seed, position]) => [threefry(BigInt(seed), position).toString(16).padStart(8, "0"), uniform(BigInt(seed), position)]),
  words: (texts) => texts.map(splitWords),
  encode: ([file, texts]) => {
    const vocabulary = new Vocabulary(file);
    return texts.map((text) => {
      const ids = vocabulary.encode(text);
      return [ids, ids.reduce((written, id) => written + vocabulary.piece(id, written), "")];
    });
  },
  vocabularies: (cases) =>
    cases.map(([file, texts, refused, continuations]) => {
      const vocabulary = new Vocabulary(file);
      const errorOf = (text) => {
        try {
          return vocabulary.encode(text);
        } catch (error) {
          return error.message;
        }
      };
      const write = (before, ids) => ids.reduce((written, id) => written + vocabulary.piece(id, before + written), "");
      return [
        vocabulary.level,
        texts.map((text) => vocabulary.encode(text)),
        refused.map(errorOf),
        continuations.map(([before, ids]) => write(before, ids)),
      ];
    }),
  bundles: (paths) =>
    Promise.all(
      paths.map(async (path) => {
        try {
          return (await readBundle(new Uint8Array(readFileSync(path)))).vocabulary.tokens.length;
        } catch (error) {
          return error.message;
        }
      }),
    ),
};
const [task, given] = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(await tasks[task](given)));
