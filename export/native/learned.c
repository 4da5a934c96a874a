/* What a model has learned: its weights, and the own words. They are saved, loaded and forgotten.
 *
 * The states do not depend on what was learned, but the logits do: those that were kept are dropped with each change. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

bool ks_has_learn(const ks_model *model) { return model && model->runtime.learn.exists; }

uint64_t ks_learned_tokens(const ks_model *model) { return model ? atomic_load(&model->learned_tokens) : 0; }

ks_status ks_require_learn(const ks_model *model, ks_error *error) {
  if (ks_has_learn(model)) return KS_OK;
  return ks_fail(error, KS_BAD_FILE, "%s must have a signature learn, which export_tflite(..., learn=True) adds", model->name);
}

/* ---- the model's own ---- */

size_t ks_weights_size(const ks_model *model) { return model->runtime.weight_count * sizeof(float); }

ks_status ks_get_weights(ks_model *model, ks_error *error) {
  return ks_run(&model->runtime, &model->runtime.get_weights, NULL, NULL, error);
}

ks_status ks_set_weights(ks_model *model, const void *weights, const float shares[KS_SHARES], ks_error *error) {
  ks_runtime *runtime = &model->runtime;
  model->read.count = 0;
  memcpy(runtime->set.weights, weights, ks_weights_size(model));
  memcpy(runtime->set.shares, shares, KS_SHARES * sizeof *shares);
  return ks_run(runtime, &runtime->set_weights, NULL, NULL, error);
}

void ks_replace_own_words(ks_model *model, ks_own_words **own_words) {
  ks_own_words *before = model->own_words;
  model->own_words = *own_words;
  *own_words = before;
}

ks_status ks_forget(ks_model *model, ks_error *error) {
  if (!model) return ks_fail(error, KS_BAD_ARGUMENT, "model must not be NULL");
  TRY(ks_require_learn(model, error));
  TRY(ks_begin(model, error));
  model->read.count = 0;
  ks_own_words *none = ks_copy_own_words(NULL);
  ks_status status = none ? KS_OK : ks_no_memory(error);
  if (!status) status = ks_run(&model->runtime, &model->runtime.reset_weights, NULL, NULL, error);
  if (!status) {
    ks_replace_own_words(model, &none);
    atomic_store(&model->learned_tokens, 0);
  }
  ks_free_own_words(none);
  ks_end(model);
  return status;
}

/* ---- the learned file ---- */

static ks_learner learner_of(const ks_model *model) {
  size_t rows = model->runtime.logit_count;
  return (ks_learner){model->sha256, rows, model->runtime.weight_count / rows};
}

static ks_status make_file(ks_model *model, ks_bytes *file, ks_error *error) {
  const ks_runtime *runtime = &model->runtime;
  TRY(ks_require_learn(model, error));
  TRY(ks_begin(model, error));
  char *words = NULL;
  ks_learner learner = learner_of(model);
  ks_learned learned = {.tokens = ks_learned_tokens(model), .weights = (const uint8_t *)runtime->got.weights};
  ks_status status = ks_write_own_words(model->own_words, &words, &learned.words_size, error);
  if (!status) status = ks_get_weights(model, error);
  if (!status) {
    learned.words = words;
    memcpy(learned.shares, runtime->got.shares, sizeof learned.shares);
    status = ks_make_learned(&learner, &learned, file, error);
  }
  free(words);
  ks_end(model);
  return status;
}

static ks_status load_file(ks_model *model, ks_bytes file, const char *name, ks_error *error) {
  ks_learner learner = learner_of(model);
  ks_learned learned;
  TRY(ks_read_learned(&learner, file, name, &learned, error));
  ks_own_words *own_words = ks_copy_own_words(NULL);
  ks_status status = own_words ? KS_OK : ks_no_memory(error);
  if (!status) status = ks_read_own_words(own_words, learned.words, learned.words_size, name, error);
  if (!status) status = ks_set_weights(model, learned.weights, learned.shares, error);
  if (!status) {
    ks_replace_own_words(model, &own_words);
    atomic_store(&model->learned_tokens, learned.tokens);
  }
  ks_free_own_words(own_words);
  return status;
}

ks_status ks_save_learned_memory(ks_model *model, void **bytes, size_t *size, ks_error *error) {
  if (!model || !bytes || !size) return ks_fail(error, KS_BAD_ARGUMENT, "model, bytes and size must not be NULL");
  ks_bytes file;
  TRY(make_file(model, &file, error));
  *bytes = file.data;
  *size = file.size;
  return KS_OK;
}

ks_status ks_save_learned(ks_model *model, const char *path, ks_error *error) {
  if (!model || !path) return ks_fail(error, KS_BAD_ARGUMENT, "model and path must not be NULL");
  char name[KS_NAME_ROOM];
  ks_bytes file;
  TRY(make_file(model, &file, error));
  ks_file_name(name, path);
  ks_status status = ks_write_file(path, name, file, error);
  free(file.data);
  return status;
}

ks_status ks_load_learned_memory(ks_model *model, const void *bytes, size_t size, ks_error *error) {
  if (!model || !bytes) return ks_fail(error, KS_BAD_ARGUMENT, "model and bytes must not be NULL");
  TRY(ks_require_learn(model, error));
  TRY(ks_begin(model, error));
  ks_status status = load_file(model, (ks_bytes){(uint8_t *)(uintptr_t)bytes, size}, "the file", error);
  ks_end(model);
  return status;
}

ks_status ks_load_learned(ks_model *model, const char *path, ks_error *error) {
  if (!model || !path) return ks_fail(error, KS_BAD_ARGUMENT, "model and path must not be NULL");
  TRY(ks_require_learn(model, error));
  char name[KS_NAME_ROOM];
  ks_bytes file;
  ks_file_name(name, path);
  ks_learner learner = learner_of(model);
  TRY(ks_read_file(path, name, "a learned file of this model", ks_largest_learned(&learner), &file, error));
  ks_status status = ks_begin(model, error);
  if (!status) {
    status = load_file(model, file, name, error);
    ks_end(model);
  }
  free(file.data);
  return status;
}
