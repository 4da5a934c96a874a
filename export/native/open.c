/* Opening and closing a model, its tokens and its defaults. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

const char *ks_version(void) { return KS_VERSION; }

void ks_free(void *memory) { free(memory); }

/* ---- opening ---- */

static ks_status load(ks_model *model, ks_bytes file, ks_error *error) {
  ks_bundle bundle;
  TRY(ks_read_bundle(file, model->name, &bundle, error));
  model->options = bundle.options;
  model->learning = bundle.learning;
  memcpy(model->sha256, bundle.model_sha256, sizeof model->sha256);
  TRY(ks_read_vocabulary(bundle.vocabulary, model->name, &model->vocabulary, error));
  if (model->vocabulary.pad < 0)
    return ks_fail(error, KS_BAD_FILE, "%s has a vocabulary without <pad>, so no text can be drawn with it", model->name);
  ks_runtime *runtime = &model->runtime;
  TRY(ks_load(runtime, (ks_bytes){file.data, bundle.model_bytes}, model->name, error));
  if (runtime->logit_count != (size_t)model->vocabulary.count)
    return ks_fail(error, KS_BAD_FILE, "%s returns %zu logits for %" PRId32 " tokens", model->name, runtime->logit_count,
                   model->vocabulary.count);
  if (runtime->learn.exists != (model->learning.rate > 0))
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged bundle: config.json must have `learning` if the model can learn, and only then",
                   model->name);
  if (runtime->learn.exists && !(model->own_words = ks_copy_own_words(NULL))) return ks_no_memory(error);
  model->read.states = malloc(runtime->states_size);
  model->read.logits = malloc(runtime->logit_count * sizeof(float));
  return model->read.states && model->read.logits ? KS_OK : ks_no_memory(error);
}

static void free_model(ks_model *model) {
  ks_unload(&model->runtime);
  ks_free_vocabulary(&model->vocabulary);
  free(model->bytes);
  ks_free_own_words(model->own_words);
  free(model->read.tokens);
  free(model->read.states);
  free(model->read.logits);
  free(model);
}

/* Opens a model from the bytes of a file, which are freed with it, or now if it cannot be opened. */
static ks_status open_bytes(const char *name, ks_bytes file, ks_model **opened, ks_error *error) {
  ks_model *model = calloc(1, sizeof *model);
  if (!model) {
    free(file.data);
    return ks_no_memory(error);
  }
  model->bytes = file.data;
  atomic_flag_clear(&model->in_use);
  atomic_init(&model->learned_tokens, 0);
  strcpy(model->name, name); /* it comes from `ks_file_name`, or is short */
  ks_status status = load(model, file, error);
  if (status) {
    free_model(model);
  } else {
    *opened = model;
  }
  return status;
}

ks_status ks_open(const char *path, ks_model **model, ks_error *error) {
  if (model) *model = NULL;
  if (!path || !model) return ks_fail(error, KS_BAD_ARGUMENT, "path and model must not be NULL");
  char name[KS_NAME_ROOM];
  ks_bytes file;
  ks_file_name(name, path);
  TRY(ks_read_file(path, name, "a .tflite file", KS_LARGEST_FILE, &file, error));
  return open_bytes(name, file, model, error);
}

ks_status ks_open_memory(const void *bytes, size_t size, ks_model **model, ks_error *error) {
  if (model) *model = NULL;
  if (!bytes || !model) return ks_fail(error, KS_BAD_ARGUMENT, "bytes and model must not be NULL");
  if (size > KS_LARGEST_FILE) return ks_fail(error, KS_BAD_FILE, "the model has more bytes than a .tflite can have (2147483648)");
  ks_bytes copy = {malloc(size + 1), size};
  if (!copy.data) return ks_no_memory(error);
  memcpy(copy.data, bytes, size);
  return open_bytes("the model", copy, model, error);
}

ks_status ks_close(ks_model *model) {
  if (!model) return KS_OK;
  TRY(ks_begin(model, NULL));
  free_model(model);
  return KS_OK;
}

/* ---- one call at a time ---- */

ks_status ks_begin(ks_model *model, ks_error *error) {
  if (!atomic_flag_test_and_set(&model->in_use)) return KS_OK;
  return ks_fail(error, KS_IN_USE, "%s is used by another call: wait for its end, or open the file once for each thread",
                 model->name);
}

void ks_end(ks_model *model) { atomic_flag_clear(&model->in_use); }

/* ---- tokens ---- */

int32_t ks_vocabulary_size(const ks_model *model) { return model ? model->vocabulary.count : 0; }

int32_t ks_unknown_id(const ks_model *model) { return model ? model->vocabulary.unknown : -1; }

int32_t ks_eos_id(const ks_model *model) { return model ? model->vocabulary.eos : -1; }

ks_status ks_encode(const ks_model *model, const char *text, int32_t **ids, size_t *count, ks_error *error) {
  if (!model || !text || !ids || !count) return ks_fail(error, KS_BAD_ARGUMENT, "model, text, ids and count must not be NULL");
  return ks_encode_text(&model->vocabulary, "text", text, strlen(text), -1, ids, count, error);
}

ks_status ks_decode(const ks_model *model, const int32_t *ids, size_t count, char **text, size_t *size, ks_error *error) {
  if (!model || (!ids && count) || !text) return ks_fail(error, KS_BAD_ARGUMENT, "model, ids and text must not be NULL");
  const ks_vocabulary *vocabulary = &model->vocabulary;
  size_t room = 1, written = 0;
  for (size_t i = 0; i < count; i++) {
    if (ids[i] < 0 || ids[i] >= vocabulary->count)
      return ks_fail(error, KS_BAD_ARGUMENT, "ids must be at least 0 and below %" PRId32 ". Received: %" PRId32, vocabulary->count,
                     ids[i]);
    size_t more = vocabulary->by_id[ids[i]].size + 1; /* a space before a word */
    if (more > SIZE_MAX - room) return ks_no_memory(error);
    room += more;
  }
  char *whole = malloc(room);
  if (!whole) return ks_no_memory(error);
  for (size_t i = 0; i < count; i++) {
    if (ks_is_silent(vocabulary, ids[i])) continue;
    const ks_token *token = &vocabulary->by_id[ids[i]];
    if (vocabulary->level == KS_WHITE_SPACE && written) whole[written++] = ' ';
    memcpy(whole + written, token->text, token->size);
    written += token->size;
  }
  whole[written] = 0;
  *text = whole;
  if (size) *size = written;
  return KS_OK;
}

ks_status ks_default_options(const ks_model *model, ks_options *options, ks_error *error) {
  if (!model || !options) return ks_fail(error, KS_BAD_ARGUMENT, "model and options must not be NULL");
  ks_options defaults = model->options;
  if (!ks_random_seed(&defaults.seed)) return ks_fail(error, KS_FAILED, "the system gives no random seed");
  *options = defaults;
  return KS_OK;
}
