// The elements of the page, and what it tells the user.

export const at = (id) => document.getElementById(id);

/** Shows an error until the next change; null hides it. */
export function showError(error) {
  at("error").textContent = error?.message ?? "";
  at("error").hidden = !error;
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
