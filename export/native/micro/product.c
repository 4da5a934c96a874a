/* Weights by numbers: nearly all of the time of a step. Each form adds the same integers, so all give the same bits;
 * KS_MICRO_PLAIN leaves only the plain one. */
#include "operators.h"

#if defined(__ARM_FEATURE_DSP) && !defined(__ARM_BIG_ENDIAN) && !defined(__aarch64__) && !defined(KS_MICRO_PLAIN)
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
      : "+&r"(sum), "=&r"(two) /* both are written before the last source is read */
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

/* Compilers make SSE2 or NEON of it. GCC does so at -O3. */
static void sum_four_rows(const int8_t *restrict weights, const int16_t *restrict numbers, uint32_t columns,
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

#if defined(__x86_64__) && defined(__GNUC__) && !defined(KS_MICRO_PLAIN)
#include <immintrin.h>

__attribute__((target("avx2"))) static inline __m256i add_sixteen(const int8_t *weights, __m256i numbers, __m256i sums) {
  __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)weights));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(wide, numbers));
}

__attribute__((target("avx2"))) static void sum_four_rows_avx2(const int8_t *weights, const int16_t *numbers, uint32_t columns,
                                                               int32_t sums[4]) {
  const int8_t *second = weights + columns, *third = second + columns, *fourth = third + columns;
  __m256i a = _mm256_setzero_si256(), b = a, c = a, d = a;
  uint32_t i = 0;
  for (; columns - i >= 16; i += 16) {
    __m256i sixteen = _mm256_loadu_si256((const __m256i *)(const void *)(numbers + i));
    a = add_sixteen(weights + i, sixteen, a);
    b = add_sixteen(second + i, sixteen, b);
    c = add_sixteen(third + i, sixteen, c);
    d = add_sixteen(fourth + i, sixteen, d);
  }
  __m256i pairs = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
  _mm_storeu_si128((__m128i *)(void *)sums, _mm_add_epi32(four, _mm_loadu_si128((const __m128i *)(const void *)sums)));
  for (; i < columns; i++) {
    sums[0] += weights[i] * (int32_t)numbers[i];
    sums[1] += second[i] * (int32_t)numbers[i];
    sums[2] += third[i] * (int32_t)numbers[i];
    sums[3] += fourth[i] * (int32_t)numbers[i];
  }
}

#define HAS_AVX2 __builtin_cpu_supports("avx2")
#else
#define HAS_AVX2 0
#define sum_four_rows_avx2 sum_four_rows
#endif

void ks_micro_product(const int8_t *weights, const int32_t *biases, const int16_t *numbers, int16_t *out, uint32_t rows,
                      uint32_t columns, int shift) {
  int32_t half = (int32_t)1 << (shift - 1);
  for (; rows >= 4; rows -= 4, biases += 4, weights += 4 * (size_t)columns) {
    int32_t sums[4] = {biases[0] + half, biases[1] + half, biases[2] + half, biases[3] + half};
    if (HAS_AVX2) {
      sum_four_rows_avx2(weights, numbers, columns, sums);
    } else {
      sum_four_rows(weights, numbers, columns, sums);
    }
    for (int i = 0; i < 4; i++) *out++ = ks_limited(sums[i] >> shift);
  }
  for (; rows; rows--, biases++) {
    int32_t sum = *biases + half;
    for (uint32_t i = 0; i < columns; i++) sum += *weights++ * (int32_t)numbers[i];
    *out++ = ks_limited(sum >> shift);
  }
}
