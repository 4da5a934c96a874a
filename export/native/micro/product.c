/* Weights by numbers: nearly all of the time of a step. Each form adds the same integers, so all give the same bits. */
#include <string.h>

#include "operators.h"

#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN) && !defined(__aarch64__)
#include <arm_acle.h>

/* Cortex-M4 and others: two products in one instruction. Of four weights, the even and the odd ones are widened. */
static uint32_t two_numbers(const int16_t *from) {
  uint32_t word;
  memcpy(&word, from, sizeof word);
  return word;
}

static int32_t add_four(const int8_t *weights, int16x2_t even, int16x2_t odd, int32_t sum) {
  int8x4_t word;
  int16x2_t odd_weights;
  memcpy(&word, weights, sizeof word);
  __asm__("sxtb16 %0, %1, ror #8" : "=r"(odd_weights) : "r"(word));
  return __smlad(odd_weights, odd, __smlad(__sxtb16(word), even, sum));
}

static void sum_four_rows(const int8_t *weights, const int16_t *numbers, uint32_t columns, int32_t sums[4]) {
  const int8_t *second = weights + columns, *third = second + columns, *fourth = third + columns;
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
  const int16_t *end = numbers + (columns & ~3u);
  while (numbers < end) {
    uint32_t low = two_numbers(numbers), high = two_numbers(numbers + 2);
    int16x2_t even = (int16x2_t)((low & 0xFFFF) | high << 16), odd = (int16x2_t)(low >> 16 | (high & 0xFFFF0000u));
    numbers += 4;
    a = add_four(weights, even, odd, a);
    weights += 4;
    b = add_four(second, even, odd, b);
    second += 4;
    c = add_four(third, even, odd, c);
    third += 4;
    d = add_four(fourth, even, odd, d);
    fourth += 4;
  }
  for (columns &= 3; columns; columns--) {
    int32_t number = *numbers++;
    a += *weights++ * number;
    b += *second++ * number;
    c += *third++ * number;
    d += *fourth++ * number;
  }
  sums[0] = a;
  sums[1] = b;
  sums[2] = c;
  sums[3] = d;
}

#else

static inline void sum_four_rows(const int8_t *restrict weights, const int16_t *restrict numbers, uint32_t columns,
                                 int32_t sums[4]) {
  const int8_t *restrict second = weights + columns, *restrict third = second + columns, *restrict fourth = third + columns;
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
  for (uint32_t i = 0; i < columns; i++) {
    /* From 16 bits to 32: compilers know instructions for sums of these products. */
    int16_t number = numbers[i], w = weights[i], x = second[i], y = third[i], z = fourth[i];
    a += (int32_t)w * number;
    b += (int32_t)x * number;
    c += (int32_t)y * number;
    d += (int32_t)z * number;
  }
  sums[0] = a;
  sums[1] = b;
  sums[2] = c;
  sums[3] = d;
}

#endif

KS_FASTEST void ks_micro_product(const int8_t *weights, const int32_t *biases, const int16_t *numbers, int16_t *out,
                                 uint32_t rows, uint32_t columns, int shift) {
  int32_t half = (int32_t)1 << (shift - 1);
  for (; rows >= 4; rows -= 4, biases += 4, weights += 4 * (size_t)columns) {
    int32_t sums[4] = {biases[0] + half, biases[1] + half, biases[2] + half, biases[3] + half};
    sum_four_rows(weights, numbers, columns, sums);
    for (int i = 0; i < 4; i++) *out++ = ks_limited(sums[i] >> shift);
  }
  for (; rows; rows--, biases++) {
    int32_t sum = *biases + half;
    for (uint32_t i = 0; i < columns; i++) sum += *weights++ * (int32_t)numbers[i];
    *out++ = ks_limited(sum >> shift);
  }
}
