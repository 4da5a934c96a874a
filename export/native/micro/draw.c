/* The integer draw and the integer log-probabilities. */
#include "draw.h"

#define FRACTION_BITS 40
#define LARGEST_STEP (UINT64_C(1) << 47) /* times a difference of logits, it fits 63 bits */
#define SMALLEST_LOGIT (-32767)

/* 2^30 * 2^(-i / 64), rounded. */
static const uint32_t POWERS[65] = {
    1073741824, 1062175491, 1050733751, 1039415261, 1028218693, 1017142735, 1006186087, 995347464, 984625594, 974019220,
    963527098,  953147997,  942880699,  932724001,  922676710,  912737649,  902905651,  893179563, 883558244, 874040567,
    864625413,  855311680,  846098274,  836984114,  827968132,  819049271,  810226483,  801498734, 792865000, 784324269,
    775875538,  767517817,  759250125,  751071493,  742980960,  734977579,  727060411,  719228525, 711481005, 703816941,
    696235434,  688735596,  681316545,  673977412,  666717336,  659535466,  652430958,  645402981, 638450708, 631573326,
    624770026,  618040012,  611382493,  604796689,  598281827,  591837143,  585461881,  579155293, 572916640, 566745190,
    560640218,  554601009,  548626854,  542717053,  536870912};

/* The tokens that may be drawn: those with a logit of at least `threshold` and a weight of at least `lightest`. */
typedef struct {
  const int16_t *logits;
  size_t count;
  uint64_t step; /* octaves of one unit of a logit, times 2^40 */
  int32_t largest, threshold;
  uint32_t lightest;
} kept;

static int32_t largest_of(const int16_t *logits, size_t count) {
  int32_t largest = KS_MICRO_FORBIDDEN;
  for (size_t i = 0; i < count; i++)
    if (logits[i] > largest) largest = logits[i];
  return largest;
}

/* Returns 2^30 * 2^(-difference * step / 2^40), by linear interpolation. */
static uint32_t weight_of(int32_t difference, uint64_t step) {
  uint64_t octaves = (uint64_t)difference * step;
  uint32_t whole = (uint32_t)(octaves >> FRACTION_BITS);
  if (whole >= 31) return 0;
  uint32_t index = (uint32_t)(octaves >> 34) & 63, rest = (uint32_t)(octaves >> 18) & 0xFFFF;
  uint32_t fall = POWERS[index] - POWERS[index + 1];
  return (POWERS[index] - (uint32_t)((uint64_t)fall * rest >> 16)) >> whole;
}

/* Returns the weight of a token; 0 if it may not be drawn. */
static uint32_t kept_weight(const kept *tokens, int32_t logit) {
  if (logit < tokens->threshold) return 0;
  uint32_t weight = weight_of(tokens->largest - logit, tokens->step);
  return weight >= tokens->lightest ? weight : 0;
}

static uint64_t total_of(const kept *tokens) {
  uint64_t total = 0;
  for (size_t i = 0; i < tokens->count; i++) total += kept_weight(tokens, tokens->logits[i]);
  return total;
}

static uint64_t number_of(const kept *tokens) {
  uint64_t number = 0;
  for (size_t i = 0; i < tokens->count; i++) number += tokens->logits[i] >= tokens->threshold;
  return number;
}

/* Raises the threshold to the largest one that keeps a measure of the tokens of at least `needed`. */
static void keep_enough(kept *tokens, uint64_t (*measure)(const kept *tokens), uint64_t needed) {
  int32_t enough = tokens->threshold, beyond = tokens->largest + 1;
  while (beyond - enough > 1) {
    tokens->threshold = enough + (beyond - enough) / 2;
    if (measure(tokens) >= needed) {
      enough = tokens->threshold;
    } else {
      beyond = tokens->threshold;
    }
  }
  tokens->threshold = enough;
}

/* Returns floor(total * fraction / 2^24), or with `added` = 2^24 - 1 the ceiling; the product itself may exceed 64 bits. */
static uint64_t share_of(uint64_t total, uint32_t fraction, uint32_t added) {
  return (total >> 24) * fraction + (((total & 0xFFFFFF) * fraction + added) >> 24);
}

static void filter(kept *tokens, const ks_micro_settings *settings) {
  if (settings->top_k > 0 && settings->top_k < number_of(tokens)) keep_enough(tokens, number_of, settings->top_k);
  if (settings->top_p < KS_MICRO_ONE)
    keep_enough(tokens, total_of, share_of(total_of(tokens), settings->top_p, KS_MICRO_ONE - 1));
  tokens->lightest = settings->min_p << 6;
}

uint32_t ks_micro_draw(const int16_t *logits, size_t count, const ks_micro_settings *settings, uint64_t logit_step,
                       uint32_t uniform24) {
  kept tokens = {logits, count, 0, largest_of(logits, count), SMALLEST_LOGIT, 0};
  if (tokens.largest == KS_MICRO_FORBIDDEN) return (uint32_t)count;
  if (settings->temperature > 0) {
    tokens.step = (logit_step << 24) / settings->temperature;
    if (tokens.step > LARGEST_STEP) tokens.step = LARGEST_STEP;
    filter(&tokens, settings);
  } else {
    tokens.threshold = tokens.largest;
    uniform24 = 0; /* the first of the most likely tokens */
  }
  uint64_t target = share_of(total_of(&tokens), uniform24, 0), cumulative = 0;
  for (size_t id = 0; id < count; id++) {
    cumulative += kept_weight(&tokens, logits[id]);
    if (cumulative > target) return (uint32_t)id;
  }
  return (uint32_t)count; /* not reached: the target is below the total */
}

/* Returns the logarithm to base 2 of a number above 0, times 2^24, digit by digit (Knuth, The Art of Computer Programming 1, 1.2.2). */
static uint64_t log2_of(uint64_t number) {
  uint64_t result = 63, square;
  while (!(number >> 63)) {
    number <<= 1;
    result--;
  }
  square = number >> 32; /* from 2^31 up to 2^32, that is from 1 up to 2 */
  for (int bit = 0; bit < 24; bit++) {
    square = square * square >> 31;
    result = result << 1 | square >> 32;
    square >>= square >> 32;
  }
  return result;
}

ks_micro_distribution ks_micro_distribution_of(const int16_t *logits, size_t count, uint64_t logit_step) {
  kept tokens = {logits, count, logit_step, largest_of(logits, count), SMALLEST_LOGIT, 0};
  return (ks_micro_distribution){logit_step, total_of(&tokens), (int16_t)tokens.largest};
}

uint64_t ks_micro_weight(const ks_micro_distribution *distribution, int16_t logit) {
  return logit == KS_MICRO_FORBIDDEN ? 0 : weight_of(distribution->largest - logit, distribution->logit_step);
}

uint64_t ks_micro_cost(const ks_micro_distribution *distribution, int16_t logit) {
  if (logit == KS_MICRO_FORBIDDEN || !distribution->total) return KS_MICRO_IMPOSSIBLE;
  uint64_t octaves = (uint64_t)(distribution->largest - logit) * distribution->logit_step;
  return (octaves >> 16) + log2_of(distribution->total) - (UINT64_C(30) << 24);
}

uint64_t ks_micro_cost_of_any(const ks_micro_distribution *distribution, uint64_t weights) {
  return weights && distribution->total ? log2_of(distribution->total) - log2_of(weights) : KS_MICRO_IMPOSSIBLE;
}
