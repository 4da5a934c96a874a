// The likeliest of the next tokens, from their logits.

/** Whether a token is never shown as what may follow: padding, the start of a text, and the unknown token. */
export function isForbidden({ padId, startId, unknownId }, id) {
  return id === padId || id === startId || id === unknownId;
}

/** Requires that logits are numbers, and at least one of them finite. */
export function requireNumbers(logits, purpose) {
  let highest = -Infinity;
  for (const logit of logits) highest = Math.max(highest, logit); // NaN if there is one
  if (!Number.isFinite(highest)) throw new Error(`${purpose}: the model's logits are not finite`);
}

/** Returns the largest of some logits, and the sum of the exponentials of the differences from it. */
export function scaleOf(logits, ids) {
  let highest = -Infinity;
  for (const id of ids) highest = Math.max(highest, logits[id]);
  let total = 0;
  for (const id of ids) total += Math.exp(logits[id] - highest);
  return [highest, total];
}

/** Returns up to `count` ids with the largest logits, in this order, the lower id first on a tie. The ids must ascend. */
export function largest(logits, ids, count) {
  const best = [];
  for (const id of ids) {
    if (best.length === count && !(logits[id] > logits[best[count - 1]])) continue;
    if (best.length === count) best.pop();
    let at = best.length;
    while (at > 0 && logits[id] > logits[best[at - 1]]) at -= 1;
    best.splice(at, 0, id);
  }
  return best;
}

/** Returns what a logit exceeds its log-probability by: the logarithm of the sum of the exponentials. */
export function logScale(logits) {
  requireNumbers(logits, "the next token has no probability");
  const [highest, total] = scaleOf(logits, [...logits.keys()]);
  return highest + Math.log(total);
}

/** Returns up to `count` of the likeliest next tokens after a text, as `{tokenId, text, probability}`, the likeliest first. */
export function nextTokens(logits, vocabulary, before, count) {
  requireNumbers(logits, "no token can be proposed");
  const ids = [...logits.keys()];
  const [highest, total] = scaleOf(logits, ids);
  const allowed = ids.filter((id) => !isForbidden(vocabulary, id));
  return largest(logits, allowed, count).map((tokenId) => ({
    tokenId,
    text: vocabulary.piece(tokenId, before),
    probability: Math.exp(logits[tokenId] - highest) / total,
  }));
}
