// The beginnings that the user can tap.

const COUNT = 3;
const SHAKESPEARE = ["ROMEO:\n", "To be, or not to be", "My lord,"];
/** What the page writes by itself on a first visit, with its own model: the same for everyone. */
export const OPENING = { prompt: "JULIET:\n", seed: 2n };
const LINES = 3; // of it
const LONGEST = 300; // characters of these lines

/** Returns the beginnings for a model: those of the page's own, or else the likeliest first words of a line. */
export async function promptsFor(model, isShakespeare) {
  if (isShakespeare) return SHAKESPEARE;
  const hasLines = model.config.by_line !== true && model.vocabulary.unknown("\n").length === 0;
  return (await model.suggest(hasLines ? "\n" : "", COUNT)).map(({ text }) => text);
}

/** Fills a box with buttons. */
export function showPrompts(box, prompts, onPick) {
  box.replaceChildren(
    ...prompts.map((prompt) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "prompt";
      button.textContent = prompt.trim();
      button.addEventListener("click", () => onPick(prompt));
      return button;
    }),
  );
}

/** Returns a function that says which piece of a text ends its third line. Empty lines do not count. */
export function endOfOpening() {
  let text = "";
  return (piece) => {
    text += piece.text;
    const lines = text.split("\n").slice(0, -1);
    return lines.filter((line) => line.trim()).length >= LINES || text.length >= LONGEST;
  };
}
