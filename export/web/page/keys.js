// The keys, and the place above a phone's keyboard.

/** Calls what the keys mean. Fields other than the text keep their own undo. */
export function listenForKeys({ field, writeOrStop, escape, undo, redo, alternatives }) {
  const meaning = ({ key, target, ctrlKey, metaKey, altKey, shiftKey }) => {
    const letter = key.toLowerCase();
    if (altKey) return key === "ArrowDown" && target === field ? alternatives : null;
    if (!ctrlKey && !metaKey) return null;
    if (key === "Enter") return writeOrStop;
    if (target !== field && target.matches?.("input[type=text], input[type=number]")) return null;
    if (letter === "z") return shiftKey ? redo : undo;
    return letter === "y" ? redo : null;
  };
  addEventListener("keydown", (event) => {
    if (event.isComposing) return; // The keys are those of an input method.
    if (document.querySelector("dialog[open]")) return;
    if (event.key === "Escape") return escape();
    const act = meaning(event);
    if (!act) return;
    event.preventDefault();
    if (act !== writeOrStop || !event.repeat) act(); // A key that is held would stop what it has begun.
  });
}

/** Keeps the page as high as what is visible: some phones lay their keyboard over the page. */
export function staysAboveKeyboard() {
  const view = window.visualViewport;
  view?.addEventListener("resize", () => {
    if (view.scale !== 1) return; // The user has zoomed in.
    document.documentElement.style.setProperty("--height", `${view.height}px`);
  });
}
