// The elements of the page, and what it tells the user.

export const at = (id) => document.getElementById(id);

/** Returns an element with properties and children. */
export function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

/** Shows an error until the next change; null hides it. */
export function showError(error) {
  at("error").textContent = error?.message ?? "";
  at("error").hidden = !error;
}

/** Returns a probability in percent: never 0 for more than nothing, never 100 for less than all. */
export function percent(probability) {
  if (probability < 0.005) return "<1%";
  return probability < 0.995 ? `${Math.round(probability * 100)}%` : ">99%";
}

export function showStatus(text) {
  at("status").value = text;
}

/** Runs what the user asked for; an error is shown. */
export async function attempt(work) {
  showError(null);
  try {
    return await work();
  } catch (error) {
    showError(error);
  }
}
