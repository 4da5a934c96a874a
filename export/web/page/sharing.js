// Copies and shares: to the clipboard, or with the system's own dialog.

import { isLocal, linkTo } from "./share.js";

/** Copies a text; returns the sentence for the user. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch (error) {
    const advice = "Select the text, and copy it with the keys of your system.";
    throw new Error(`The browser did not allow copying: ${error.message} ${advice}`, { cause: error });
  }
  return `${what} is copied.`;
}

/** Shares a link, with the system's dialog where there is one; returns the sentence for the user, "" if the user cancelled. */
export async function share(recipe) {
  const address = location.href.replace(/#.*$/, "");
  const link = linkTo(address, recipe);
  if (navigator.share) {
    try {
      await navigator.share({ url: link });
      return "The link is shared.";
    } catch (error) {
      if (error.name === "AbortError") return "";
    }
  }
  const note = isLocal(address) ? " It works on this device only." : "";
  return `${await copy(link, "The link")}${note}`;
}
