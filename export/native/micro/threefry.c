/* The random stream of every runtime: Threefry-2x32-20, Salmon et al. 2011. */
#include "threefry.h"

uint32_t ks_threefry(uint64_t seed, uint32_t position) {
  static const int rotations[] = {13, 15, 26, 6, 17, 29, 16, 24};
  uint32_t key[3] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0};
  key[2] = key[0] ^ key[1] ^ 0x1BD11BDAu;
  uint32_t x0 = position + key[0], x1 = key[1];
  for (uint32_t number = 0; number < 20; number++) {
    int rotation = rotations[number % 8];
    x0 += x1;
    x1 = ((x1 << rotation) | (x1 >> (32 - rotation))) ^ x0;
    if (number % 4 == 3) {
      uint32_t injection = number / 4 + 1;
      x0 += key[injection % 3];
      x1 += key[(injection + 1) % 3] + injection;
    }
  }
  return x0;
}
