// Runs a task of web_model.mjs in Node. JSON in: the file and the tasks; JSON out: the answers and numbers of tensors.

import { getGlobalLiteRt } from "@litertjs/core";
import { KerasSeq, loadRuntime } from "keras_seq";
import { readFileSync } from "node:fs";
import { tasks } from "./web_model.mjs";

for (const name of ["debug", "error", "info", "log", "warn"]) console[name] = () => {}; // LiteRT.js logs

await loadRuntime();
// Each tensor asks its buffer for its type when it is made.
const { prototype } = getGlobalLiteRt().liteRtWasm.LiteRtTensorBuffer;
const live = new Set();
let most = 0;
const { delete: deleteBuffer, tensorType } = prototype;
prototype.tensorType = function () {
  live.add(this);
  most = Math.max(most, live.size);
  return tensorType.call(this);
};
prototype.delete = function () {
  live.delete(this);
  return deleteBuffer.call(this);
};

const [path, asked] = JSON.parse(readFileSync(0, "utf8"));
const model = await KerasSeq.load(readFileSync(path));
const answers = [];
let held = 0; // after a task
for (const [task, given] of asked) {
  answers.push(await tasks[task](model, given));
  held = Math.max(held, live.size);
}
await model.close();
process.stdout.write(JSON.stringify({ answers, held, most, left: live.size }));
