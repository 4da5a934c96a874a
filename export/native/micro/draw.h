/* Draws tokens and measures words with integers only. docs/porting.md, "The integer draw", defines every number here; it is
 * equal bit for bit in Python, JavaScript and C.
 *
 * C99 without a library, a heap, scratch memory or floating point. A logit is an int16_t times a constant S of the model; its
 * `logit_step` is floor(S / ln 2 * 2^40 + 0.5), which must be below 2^40. A logit of KS_MICRO_FORBIDDEN is never drawn and has
 * no probability. */
#ifndef KERAS_SEQ_MICRO_DRAW_H
#define KERAS_SEQ_MICRO_DRAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KS_MICRO_FORBIDDEN INT16_MIN

/* The settings of the draw, as multiples of 2^-24. KS_MICRO_SETTINGS makes them. */
typedef struct {
  uint64_t temperature; /* 0 takes the most likely token; up to 1e6 */
  uint32_t top_k;       /* 0 is off */
  uint32_t top_p;       /* above 0; KS_MICRO_ONE is off */
  uint32_t min_p;       /* 0 is off; up to KS_MICRO_ONE */
} ks_micro_settings;

#define KS_MICRO_ONE 16777216u

/* Makes the integer of a constant such as 0.8. Compilers compute it, so no floating point is left in the program. */
#define KS_MICRO_FRACTION(constant) ((uint32_t)((constant) * 16777216.0 + 0.5))

/* Initializes a ks_micro_settings: `ks_micro_settings settings = KS_MICRO_SETTINGS(0.8, 40, 0.95, 0.0);` */
#define KS_MICRO_SETTINGS(temperature, top_k, top_p, min_p) \
  {(uint64_t)((temperature) * 16777216.0 + 0.5), (top_k), KS_MICRO_FRACTION(top_p), KS_MICRO_FRACTION(min_p)}

/* Returns the id of the token that is drawn from `count` logits with a uniform number below 2^24: Threefry's word >> 8. Returns
 * `count` if every logit is forbidden. */
uint32_t ks_micro_draw(const int16_t *logits, size_t count, const ks_micro_settings *settings, uint64_t logit_step,
                       uint32_t uniform24);

/* ---- log-probabilities, for suggestions and scores ----
 *
 * A cost is a negative log-probability in units of 2^-24 octaves: 1 << 24 is one bit, a probability of a half. Costs of the
 * tokens of a word add up to that of the word. */

#define KS_MICRO_IMPOSSIBLE UINT64_MAX

/* The distribution at temperature 1 over those of some logits that are not KS_MICRO_FORBIDDEN. */
typedef struct {
  uint64_t logit_step, total; /* `total` is the sum of the weights; 0 if there is no token */
  int16_t largest;
} ks_micro_distribution;

/* The functions below take logits that are among these, or KS_MICRO_FORBIDDEN. */
ks_micro_distribution ks_micro_distribution_of(const int16_t *logits, size_t count, uint64_t logit_step);

/* Returns the weight of a logit: its share of `total` is its probability. 0 for a forbidden one. */
uint64_t ks_micro_weight(const ks_micro_distribution *distribution, int16_t logit);

/* Returns the cost of one token; KS_MICRO_IMPOSSIBLE if its logit is forbidden. */
uint64_t ks_micro_cost(const ks_micro_distribution *distribution, int16_t logit);

/* Returns the cost of any of several tokens, given the sum of their weights; KS_MICRO_IMPOSSIBLE if this is 0. */
uint64_t ks_micro_cost_of_any(const ks_micro_distribution *distribution, uint64_t weights);

#ifdef __cplusplus
}
#endif

#endif
