// Who may read a model, and who may change it.

const nothing = () => {};

/** Lets calls that read something run at the same time, and each that changes it alone, in the order in which they came. */
export class Turns {
  #reads = new Set(); // promises that settle when a call has read; they never reject
  #changed = Promise.resolve(); // settles when no call changes anything; never rejects

  /** Calls `work`, which only reads, after the changes before it. */
  read(work) {
    const answer = this.#changed.then(work);
    const settled = answer.then(nothing, nothing).then(() => this.#reads.delete(settled));
    this.#reads.add(settled);
    return answer;
  }

  /** Calls `work` after all calls before it, and before those that come later. */
  change(work) {
    const answer = Promise.all([this.#changed, ...this.#reads]).then(work);
    this.#changed = answer.then(nothing, nothing);
    return answer;
  }
}
