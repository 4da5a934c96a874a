/* Reading a text with the model. What was read last is kept, so that a text that grows is read from where it grew. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static ks_status make_room(ks_read *read, size_t count, ks_error *error) {
  if (count <= read->room) return KS_OK;
  if (count > SIZE_MAX / 2 / sizeof *read->tokens) return ks_no_memory(error);
  int32_t *tokens = realloc(read->tokens, 2 * count * sizeof *tokens);
  if (!tokens) return ks_no_memory(error);
  read->tokens = tokens;
  read->room = 2 * count;
  return KS_OK;
}

/* Reads the next tokens: one with `decode`, as many as `prefill` takes otherwise. */
static ks_status read_chunk(ks_runtime *runtime, ks_read *read, const int32_t *tokens, size_t count, ks_error *error) {
  const float *logits = runtime->decoded.logits;
  if (count == 1) {
    TRY(ks_step(runtime, *tokens, read->states, read->states, error));
  } else {
    memset(runtime->prefilled.tokens, 0, runtime->prefill_steps * sizeof *tokens);
    memcpy(runtime->prefilled.tokens, tokens, count * sizeof *tokens);
    *runtime->prefilled.length = (int32_t)count;
    TRY(ks_run(runtime, &runtime->prefill, read->states, read->states, error));
    logits = runtime->prefilled.logits;
  }
  memcpy(read->logits, logits, runtime->logit_count * sizeof *logits);
  memcpy(read->tokens + read->count, tokens, count * sizeof *tokens);
  read->count += count;
  return KS_OK;
}

ks_status ks_read_tokens(ks_model *model, const int32_t *tokens, size_t count, ks_error *error) {
  ks_read *read = &model->read;
  ks_runtime *runtime = &model->runtime;
  TRY(make_room(read, count, error));
  if (!read->count || read->count > count || memcmp(read->tokens, tokens, read->count * sizeof *tokens)) {
    read->count = 0;
    memcpy(read->states, runtime->first_states, runtime->states_size);
  }
  while (read->count < count) {
    size_t left = count - read->count;
    TRY(read_chunk(runtime, read, tokens + read->count, left < runtime->prefill_steps ? left : runtime->prefill_steps, error));
  }
  return KS_OK;
}
