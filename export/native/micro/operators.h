/* The operators of a step. */
#ifndef KERAS_SEQ_MICRO_OPERATORS_H
#define KERAS_SEQ_MICRO_OPERATORS_H

#include "keras_seq_micro.h"

/* For a loop whose results may replace its sources, each the number that it is made of. */
#if defined(__clang__)
#define KS_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
/* It permits vectors. Clang takes it as a wish, and warns where a processor has none, or without optimization for speed. */
#pragma clang diagnostic ignored "-Wpass-failed"
#elif defined(__GNUC__)
#define KS_INDEPENDENT _Pragma("GCC ivdep")
#else
#define KS_INDEPENDENT
#endif

static inline int16_t ks_limited(int32_t value) {
  return (int16_t)(value > 32767 ? 32767 : value < -32768 ? -32768 : value);
}

/* Sums up rows of weights by numbers, plus biases, shifted right with rounding. The export made sure that the sums fit. */
void ks_micro_product(const int8_t *weights, const int32_t *biases, const int16_t *numbers, int16_t *out, uint32_t rows,
                      uint32_t columns, int shift);

/* Runs an operator that is neither a look-up nor a product. */
void ks_micro_elementwise(const ks_micro_operator *given, const int16_t *a, const int16_t *b, const uint16_t *sigmoid,
                          int16_t *out);

#endif
