// The random stream of every runtime: Threefry-2x32-20, Salmon et al. 2011.

const ROTATIONS = [13, 15, 26, 6, 17, 29, 16, 24];

function keyOf(seed) {
  const low = Number(BigInt.asUintN(32, seed));
  const high = Number(BigInt.asUintN(32, seed >> 32n));
  return [low, high, (low ^ high ^ 0x1bd11bda) >>> 0];
}

function firstWord(key, position) {
  let x0 = (position + key[0]) >>> 0;
  let x1 = key[1];
  for (let number = 0; number < 20; number++) {
    const rotation = ROTATIONS[number % 8];
    x0 = (x0 + x1) >>> 0;
    x1 = (((x1 << rotation) | (x1 >>> (32 - rotation))) ^ x0) >>> 0;
    if (number % 4 === 3) {
      const injection = (number + 1) / 4;
      x0 = (x0 + key[injection % 3]) >>> 0;
      x1 = (x1 + key[(injection + 1) % 3] + injection) >>> 0;
    }
  }
  return x0;
}

/** Returns the first word of Threefry for a seed (BigInt of 64 bits) and a position (an integer below 2^32). */
export function threefry(seed, position) {
  return firstWord(keyOf(seed), position);
}

/** Returns uniform numbers in [0, 1) for the tokens of a text from a position on. */
export function uniforms(seed, position, count) {
  const key = keyOf(seed);
  return Float32Array.from({ length: count }, (_, index) => (firstWord(key, position + index) >>> 8) * 2 ** -24);
}

/** Returns a new seed of 63 bits. */
export function newSeed() {
  return crypto.getRandomValues(new BigUint64Array(1))[0] >> 1n;
}
