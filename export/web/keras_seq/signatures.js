// Whether the signatures of a .tflite are those that this package calls.

export const LEARN_STEPS = 64; // tokens of one call of `learn`
export const LEARNING = ["learn", "get_weights", "set_weights", "reset_weights"];
const MOST_TENSORS = 256; // inputs or outputs of a signature
const CANDIDATES = 3; // weights of what was learned, each with its share

/** Requires what is used of the signatures of a file with this vocabulary and configuration. */
export function requireSignatures(signatures, vocabulary, config) {
  const missing = ["decode", "prefill", "sample"].filter((name) => !signatures[name]);
  if (missing.length) throw new Error(`This file lacks the signature ${missing[0]}: export it again.`);
  for (const one of Object.values(signatures)) {
    const most = Math.max(one.getInputDetails().length, one.getOutputDetails().length);
    if (most > MOST_TENSORS) {
      throw new Error(`The model in this file has a signature with more than ${MOST_TENSORS} inputs or outputs.`);
    }
  }
  if (signatures.encode) throw new Error("This model begins with the states of an encoder, which cannot be run here.");
  const size = signatures.decode.getOutputDetails().find(({ name }) => name === "logits")?.shape.at(-1);
  const count = vocabulary.tokens.length;
  if (size !== count) {
    throw new Error(`The vocabulary in this file has ${count} tokens, but its model has ${size ?? "no"} logits.`);
  }
  requireLearning(signatures, count, config.learning !== undefined);
}

/** Requires the signatures that learn: all of them if the configuration has a learning rate, and none without. */
function requireLearning(signatures, tokens, learns) {
  for (const name of LEARNING) {
    if (learns !== name in signatures) {
      const found = `${learns ? "lacks" : "has"} the signature ${name}`;
      throw new Error(`This file ${found}, which does not fit its config.json: export it again.`);
    }
  }
  if (!learns) return;
  const states = shapesOf(signatures.decode.getInputDetails().filter(({ name }) => isState(name)));
  const [ids, logs] = ["int32", "float32"].map((dtype) => `${dtype} [1,${LEARN_STEPS}]`);
  const read = { tokens: ids, next_tokens: ids, length: "int32 [1]", rate: "float32 [1]" };
  const found = { log_probabilities: logs, model_log_probabilities: logs };
  const features = signatures.get_weights.getOutputDetails().find(({ name }) => name === "weights")?.shape.at(-1);
  const shares = { log_shares: `float32 [${CANDIDATES}]` };
  const learned = { weights: `float32 [${tokens},${features}]`, ...shares };
  requireShapes("learn", signatures.learn, { ...read, ...states }, { ...found, ...states });
  requireShapes("get_weights", signatures.get_weights, {}, learned);
  requireShapes("set_weights", signatures.set_weights, learned, shares);
  requireShapes("reset_weights", signatures.reset_weights, {}, shares);
}

export function isState(name) {
  return name.startsWith("state_");
}

function shapesOf(details) {
  return Object.fromEntries(details.map(({ name, dtype, shape }) => [name, `${dtype} [${[...shape]}]`]));
}

function requireShapes(signature, runner, inputs, outputs) {
  for (const [kind, details, expected] of [
    ["inputs", runner.getInputDetails(), inputs],
    ["outputs", runner.getOutputDetails(), outputs],
  ]) {
    const found = shownShapes(shapesOf(details));
    const needed = shownShapes(expected);
    if (found !== needed) {
      throw new Error(`The ${kind} of ${signature} in this file must be ${needed}. Received: ${found}`.slice(0, 300));
    }
  }
}

function shownShapes(shapes) {
  const shown = Object.keys(shapes).sort().map((name) => `${name} ${shapes[name]}`);
  return shown.join(", ") || "nothing";
}
