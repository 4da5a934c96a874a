// How much a model has learned from the user, and the effect of that, in words. Pure.

const RECENT = 3000; // characters about which the effect is
const ENOUGH = 300; // characters, before which it says little

/** How likely texts of so many characters were, in nats: each with what was learned before it, and without. */
export const NO_EFFECT = { characters: 0, nats: 0, modelNats: 0 };

/** Returns the effect on about the last 3,000 characters, after a text with its report. */
export function effectAfter(effect, { length }, { tokens, natsPerToken, modelNatsPerToken }) {
  const share = effect.characters ? Math.min(1, Math.max(0, RECENT - length) / effect.characters) : 0;
  return {
    characters: effect.characters * share + length,
    nats: effect.nats * share + tokens * natsPerToken,
    modelNats: effect.modelNats * share + tokens * modelNatsPerToken,
  };
}

/** Returns what to say about how much was learned. */
export function amountSentence({ tokens, bytes, isKept }, level) {
  const units = level === "char" ? "characters" : "words and signs";
  const size = `${Math.ceil(bytes / 1000).toLocaleString("en")} kB`;
  const kept = isKept ? `, kept as ${size}` : `. This browser cannot keep it (${size}), so it is lost when you leave`;
  return `Learned from ${tokens.toLocaleString("en")} ${units} that you typed${kept}.`;
}

/** Returns what to say about the effect of what was learned. Surprise is measured in nats. */
export function effectSentence({ characters, nats, modelNats }) {
  if (characters < ENOUGH || !(modelNats > 0)) return "Whether it helps will show after a few more sentences.";
  const percent = Math.round(100 * (1 - nats / modelNats));
  if (percent === 0) return "So far, it makes no difference.";
  const change = percent > 0 ? `${percent}% less, thanks to` : `${-percent}% more, because of`;
  return `Your last sentences surprised the model ${change} what it had learned before.`;
}
