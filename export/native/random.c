/* Uniform numbers of the random stream, and seeds. */
#include "internal.h"

#if defined(__APPLE__) || defined(__ANDROID__)
#include <stdlib.h> /* arc4random_buf */
#else
#include <sys/random.h> /* getentropy */
#include <unistd.h>
#endif

float ks_uniform(uint64_t seed, uint32_t position) { return (float)(ks_threefry(seed, position) >> 8) * 0x1p-24f; }

/* Gives a random number of 63 bits, so that it can be given to every runtime as a signed number. */
bool ks_random_seed(uint64_t *seed) {
#if defined(__APPLE__) || defined(__ANDROID__)
  arc4random_buf(seed, sizeof *seed);
#else
  if (getentropy(seed, sizeof *seed)) return false;
#endif
  *seed >>= 1;
  return true;
}
