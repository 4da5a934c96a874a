/* Calls every function of the library with the first allocation failing, then the second, and so on until it succeeds:
 *     native_allocations LEARNED FILE
 * LEARNED is written and read.
 * Linked with -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc, which reaches the library's own allocations and not LiteRT's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "keras_seq.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);

static long until_failure = -1; /* allocations that still succeed; below zero all do */

static bool fails(void) { return until_failure >= 0 && until_failure-- == 0; }

void *__wrap_malloc(size_t size) { return fails() ? NULL : __real_malloc(size); }
void *__wrap_calloc(size_t count, size_t size) { return fails() ? NULL : __real_calloc(count, size); }
void *__wrap_realloc(void *memory, size_t size) { return fails() ? NULL : __real_realloc(memory, size); }

static const char *path, *learned_path;
static char *content;
static size_t content_size;
static ks_model *model;
static ks_error error;

static ks_status close_if_open(ks_status status) {
  if (!status) ks_close(model);
  return status;
}

static ks_status open_path(void) { return close_if_open(ks_open(path, &model, &error)); }

static ks_status open_memory(void) { return close_if_open(ks_open_memory(content, content_size, &model, &error)); }

static ks_status encode(void) {
  int32_t *ids;
  size_t count;
  ks_status status = ks_encode(model, "To be", &ids, &count, &error);
  if (!status) ks_free(ids);
  return status;
}

static ks_status decode(void) {
  char *text;
  const int32_t ids[] = {4, 5, 6};
  ks_status status = ks_decode(model, ids, 3, &text, NULL, &error);
  if (!status) ks_free(text);
  return status;
}

static bool take(const ks_piece *piece, void *sum) {
  *(size_t *)sum += piece->size;
  return true;
}

static ks_status write_text(void) {
  static const char *const stops[] = {"zzzz", "not to be, or to"};
  ks_options options;
  size_t sum = 0;
  ks_status status = ks_default_options(model, &options, &error);
  options.seed = 1;
  options.stops = stops;
  options.stop_count = 2;
  return status ? status : ks_write(model, "To be", &options, take, &sum, NULL, &error);
}

static ks_status suggest(void) {
  ks_suggestion *found;
  size_t count;
  ks_status status = ks_suggest(model, "To b", 20, &found, &count, &error);
  if (!status) ks_free(found);
  return status;
}

static ks_status score(void) {
  double *found;
  size_t count;
  ks_status status = ks_score(model, "To be", &found, &count, &error);
  if (!status) ks_free(found);
  return status;
}

static ks_status learn(void) {
  const ks_learn_options options = {.rate = 0.1f, .by_line = true};
  return ks_learn(model, "to be\nor not to be", &options, NULL, &error);
}

static ks_status save_learned(void) { return ks_save_learned(model, learned_path, &error); }

static ks_status load_learned(void) { return ks_load_learned(model, learned_path, &error); }

static ks_status in_memory(void) {
  void *bytes;
  size_t size;
  ks_status status = ks_save_learned_memory(model, &bytes, &size, &error);
  if (status) return status;
  status = ks_load_learned_memory(model, bytes, size, &error);
  ks_free(bytes);
  return status;
}

static ks_status forget(void) { return ks_forget(model, &error); }

/* Prints how many allocations of a call can fail. */
static int try_all(const char *name, ks_status (*call)(void)) {
  long count = 0;
  for (;; count++) {
    until_failure = count;
    ks_status status = call();
    bool has_failed = until_failure < 0; /* otherwise the call made fewer allocations */
    until_failure = -1;
    if (!status && !has_failed) break;
    if (status != KS_OUT_OF_MEMORY || strcmp(error.text, "out of memory")) {
      fprintf(stderr, "%s: status %d after %ld allocations: %s\n", name, (int)status, count, error.text);
      return 1;
    }
  }
  printf("%s %ld\n", name, count);
  return 0;
}

/* After a call that failed, the model is as it was. */
static int try_learning(void) {
  if (try_all("learn", learn) || try_all("save_learned", save_learned)) return 1;
  uint64_t tokens = ks_learned_tokens(model);
  if (try_all("suggest_own", suggest) || try_all("forget", forget) || ks_learned_tokens(model)) return 1;
  if (try_all("load_learned", load_learned) || try_all("in_memory", in_memory)) return 1;
  return ks_learned_tokens(model) != tokens || !tokens || tokens > 19; /* once: 19 characters, or 8 words */
}

int main(int count, char **arguments) {
  path = arguments[count - 1];
  learned_path = arguments[1];
  FILE *file = fopen(path, "rb");
  content = malloc(64 << 20);
  if (!file || !content) return 1;
  content_size = fread(content, 1, 64 << 20, file);
  fclose(file);
  if (try_all("open", open_path) || try_all("open_memory", open_memory)) return 1;
  if (ks_open(path, &model, &error)) return 1;
  if (try_all("encode", encode) || try_all("decode", decode) || try_all("suggest", suggest) || try_all("score", score) ||
      try_all("write", write_text) || try_learning())
    return 1;
  ks_close(model);
  free(content);
  return 0;
}
