/* The log-probability of each token of a text. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Returns the log-probability of a token, as keras_seq/generation/sampling.py computes it. */
static double log_probability(const float *logits, size_t count, int32_t token) {
  double largest = -INFINITY, sum = 0;
  for (size_t i = 0; i < count; i++)
    if (!(logits[i] <= largest)) largest = logits[i]; /* also if it is NaN */
  for (size_t i = 0; i < count; i++) sum += exp(logits[i] - largest);
  return logits[token] - largest - log(sum);
}

static ks_status score_tokens(ks_runtime *runtime, const int32_t *tokens, size_t count, uint8_t *states, double *scores,
                              ks_error *error) {
  memcpy(states, runtime->first_states, runtime->states_size);
  for (size_t i = 0; i < count; i++) {
    TRY(ks_step(runtime, tokens[i], states, states, error));
    scores[i] = log_probability(runtime->decoded.logits, runtime->logit_count, tokens[i + 1]);
    if (isnan(scores[i]))
      return ks_fail(error, KS_FAILED, "token %zu of the text cannot be scored: the model's logits there are NaN", i);
  }
  return KS_OK;
}

static ks_status score(ks_model *model, const char *text, double **log_probabilities, size_t *count, ks_error *error) {
  int32_t *tokens; /* <s> and the text */
  size_t found;
  TRY(ks_encode_text(&model->vocabulary, "text", text, strlen(text), model->vocabulary.start, &tokens, &found, error));
  double *scores = calloc(found, sizeof *scores);
  uint8_t *states = malloc(model->runtime.states_size);
  ks_status status = scores && states ? score_tokens(&model->runtime, tokens, found - 1, states, scores, error) : ks_no_memory(error);
  free(tokens);
  free(states);
  if (status) {
    free(scores);
    return status;
  }
  *log_probabilities = scores;
  *count = found - 1;
  return KS_OK;
}

ks_status ks_score(ks_model *model, const char *text, double **log_probabilities, size_t *count, ks_error *error) {
  if (!model || !text || !log_probabilities || !count)
    return ks_fail(error, KS_BAD_ARGUMENT, "model, text, log_probabilities and count must not be NULL");
  TRY(ks_begin(model, error));
  ks_status status = score(model, text, log_probabilities, count, error);
  ks_end(model);
  return status;
}
