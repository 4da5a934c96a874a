// Stop strings: the text ends before the first of them, wherever the tokens begin and end.

/** Returns the position at which the first stop string in a text begins, or -1. */
function findStop(text, stops) {
  const found = stops.map((stop) => text.indexOf(stop)).filter((position) => position >= 0);
  return found.length ? Math.min(...found) : -1;
}

/** Returns the length of the longest end of a text that may be the beginning of a stop string. */
function unfinishedStop(text, stops) {
  let longest = 0;
  for (const stop of stops) {
    for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(stop.slice(0, length))) longest = length;
    }
  }
  return longest;
}

/** Holds back the pieces of a text that may belong to a stop string. */
export class StopFilter {
  /** @param {string[]} stops strings of at least one character */
  constructor(stops) {
    this.stops = stops;
    this.held = [];
    this.found = false;
  }

  /** Takes the next piece; returns the pieces that are before every stop string. At one, `found` is true. */
  add(piece) {
    this.held.push(piece);
    const text = this.held.map((one) => one.text).join("");
    const position = findStop(text, this.stops);
    this.found = position >= 0;
    return this.found ? this.cut(position) : this.take(text.length - unfinishedStop(text, this.stops));
  }

  /** Returns the held pieces that lie in the first `count` units of their text. */
  take(count) {
    let ready = 0;
    for (let end = 0; ready < this.held.length && (end += this.held[ready].text.length) <= count; ) ready += 1;
    return this.held.splice(0, ready);
  }

  /** Returns the pieces of the first `count` units; the last one is cut if necessary. */
  cut(count) {
    const pieces = [];
    for (const piece of this.held) {
      if (count <= 0) break;
      pieces.push({ ...piece, text: piece.text.slice(0, count) });
      count -= piece.text.length;
    }
    return pieces;
  }

  /** Returns all pieces that are still held, at the end of the text. */
  rest() {
    return this.held.splice(0);
  }
}
