/* Weights by numbers: nearly all of the time of a step. Each form adds the same integers, so all give the same bits. */
#include "operators.h"

#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__) && !defined(__arm__)
#pragma GCC optimize("O3") /* -O2 makes no use of instructions for several numbers before GCC 12, and little after */
#endif

#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN) && !defined(__aarch64__)
/* Cortex-M4 and others: two products in one instruction, of numbers 0 and 2, and of 1 and 3. */
typedef struct {
  uint32_t even, odd;
} four_numbers;

static inline four_numbers four_of(const int16_t *from) {
  uint32_t low, high;
  four_numbers found;
  __builtin_memcpy(&low, from, sizeof low); /* one instruction, at any address */
  __builtin_memcpy(&high, from + 2, sizeof high);
  __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(found.even) : "r"(low), "r"(high));
  __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(found.odd) : "r"(high), "r"(low));
  return found;
}

/* One piece of assembly: compilers move its parts apart, and run out of registers. */
static inline int32_t add_four(const int8_t *weights, four_numbers numbers, int32_t sum) {
  uint32_t word, two;
  __builtin_memcpy(&word, weights, sizeof word);
  __asm__(
      "sxtb16 %1, %2\n\t"
      "smlad %0, %1, %3, %0\n\t"
      "sxtb16 %1, %2, ror #8\n\t"
      "smlad %0, %1, %4, %0"
      : "+r"(sum), "=&r"(two)
      : "r"(word), "r"(numbers.even), "r"(numbers.odd));
  return sum;
}

static inline void sum_four_rows(const int8_t *weights, const int16_t *numbers, uint32_t columns, int32_t sums[4]) {
  const int8_t *third = weights + 2 * columns; /* few pointers stay in registers */
  int32_t a = sums[0], b = sums[1], c = sums[2], d = sums[3];
  for (const int16_t *end = numbers + (columns & ~3u); numbers < end; numbers += 4) {
    four_numbers four = four_of(numbers);
    a = add_four(weights, four, a);
    b = add_four(weights + columns, four, b);
    c = add_four(third, four, c);
    d = add_four(third + columns, four, d);
    weights += 4;
    third += 4;
  }
  for (uint32_t rest = columns & 3; rest; rest--, weights++, third++) {
    int32_t number = *numbers++;
    a += weights[0] * number;
    b += weights[columns] * number;
    c += third[0] * number;
    d += third[columns] * number;
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
