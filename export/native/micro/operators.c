/* The operators whose result i depends on number i of each source only. */
#include "operators.h"

static inline int16_t sum_of(int32_t a, int32_t b, int shift) {
  (void)shift;
  return ks_limited(a + b);
}

static inline int16_t difference_of(int32_t a, int32_t b, int shift) {
  (void)shift;
  return ks_limited(a - b);
}

/* Rounds twice, as LiteRT does: half of the product up, then a tie away from zero. */
static inline int16_t product_of(int32_t a, int32_t b, int shift) {
  int32_t half = (a * b + 1) >> 1, mask = ((int32_t)1 << (shift - 1)) - 1;
  return ks_limited((half >> (shift - 1)) + ((half & mask) > (mask >> 1) + (half < 0)));
}

/* A loop for each case, so that each is one without conditions. */
#define FOR_EACH(name, result)                                                                           \
  static void name(const ks_micro_operator *given, const int16_t *a, const int16_t *b, int16_t *out) { \
    int shift = given->shift;                                                                            \
    uint32_t count = given->count;                                                                       \
    if (given->flags & KS_MICRO_A_SINGLE) {                                                              \
      int16_t single = *a;                                                                               \
      KS_INDEPENDENT for (uint32_t i = 0; i < count; i++) out[i] = result(single, b[i], shift);          \
    } else if (given->flags & KS_MICRO_B_SINGLE) {                                                       \
      int16_t single = *b;                                                                               \
      KS_INDEPENDENT for (uint32_t i = 0; i < count; i++) out[i] = result(a[i], single, shift);          \
    } else {                                                                                             \
      KS_INDEPENDENT for (uint32_t i = 0; i < count; i++) out[i] = result(a[i], b[i], shift);            \
    }                                                                                                    \
  }

FOR_EACH(add, sum_of)
FOR_EACH(subtract, difference_of)
FOR_EACH(multiply, product_of)

static void limit(const ks_micro_operator *given, const int16_t *a, int16_t *out) {
  int32_t highest = given->factor, factor = (int32_t)1 << given->shift;
  uint32_t count = given->count;
  KS_INDEPENDENT for (uint32_t i = 0; i < count; i++) out[i] = ks_limited((a[i] < highest ? a[i] : highest) * factor);
}

/* Interpolates the table of the sigmoid: `bits` of a number are between two entries. Beyond the table, the value is `last`. */
static inline int32_t interpolated(const uint16_t *sigmoid, int32_t size, int bits, int32_t last) {
  int32_t entry = size >> bits;
  if (entry >= 255) return last;
  return (int32_t)sigmoid[entry] * (1 << bits) + (size & ((1 << bits) - 1)) * (sigmoid[entry + 1] - sigmoid[entry]);
}

static void squash(const ks_micro_operator *given, const int16_t *a, const uint16_t *sigmoid, int16_t *out) {
  int shift = given->shift;
  int32_t factor = given->factor, half = shift ? (int32_t)1 << (shift - 1) : 0;
  for (uint32_t i = 0; i < given->count; i++) {
    int32_t x = (a[i] * factor + half) >> shift, size = x < 0 ? -x : x;
    if (given->kind == KS_MICRO_LOGISTIC) {
      int32_t value = interpolated(sigmoid, size, 9, 0x7FFF << 10);
      out[i] = (int16_t)((x < 0 ? (1 << 25) - value + 511 : value + 512) >> 10);
    } else {
      int32_t value = interpolated(sigmoid, size, 8, 0xFFFF << 8) - (1 << 23);
      out[i] = (int16_t)((x < 0 ? 127 - value : value + 128) >> 8);
    }
  }
}

void ks_micro_elementwise(const ks_micro_operator *given, const int16_t *a, const int16_t *b, const uint16_t *sigmoid,
                          int16_t *out) {
  switch (given->kind) {
    case KS_MICRO_ADD:
      add(given, a, b, out);
      break;
    case KS_MICRO_SUBTRACT:
      subtract(given, a, b, out);
      break;
    case KS_MICRO_MULTIPLY:
      multiply(given, a, b, out);
      break;
    case KS_MICRO_LIMIT:
      limit(given, a, out);
      break;
    case KS_MICRO_LOGISTIC:
    case KS_MICRO_TANH:
      squash(given, a, sigmoid, out);
      break;
    default:
      for (uint32_t i = 0; i < given->count; i++) out[i] = a[i];
  }
}
