/* The learned file: what a model has learned from texts (docs/formats.md), and which model that is. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static const char MAGIC[] = "KSLEARN", FORMAT = '1';

enum {
  SHA256 = sizeof MAGIC, /* where the parts are; the magic is followed by the format */
  ROWS = SHA256 + KS_SHA256_SIZE,
  COLUMNS = ROWS + 4,
  TOKENS = COLUMNS + 4,
  SHARES = TOKENS + 8,
  WEIGHTS = SHARES + KS_SHARES * 4
};

static void write_little_endian(uint8_t *data, int bytes, uint64_t number) {
  for (int i = 0; i < bytes; i++) data[i] = (uint8_t)(number >> 8 * i);
}

ks_status ks_make_learned(const ks_learner *learner, const ks_learned *learned, ks_bytes *file, ks_error *error) {
  size_t weights_size = learner->rows * learner->columns * sizeof(float), words = WEIGHTS + weights_size + 4;
  ks_bytes made = {NULL, words + learned->words_size + KS_SHA256_SIZE};
  if (!(made.data = malloc(made.size))) return ks_no_memory(error);
  memcpy(made.data, MAGIC, sizeof MAGIC);
  made.data[SHA256 - 1] = (uint8_t)FORMAT;
  memcpy(made.data + SHA256, learner->sha256, KS_SHA256_SIZE);
  write_little_endian(made.data + ROWS, 4, learner->rows);
  write_little_endian(made.data + COLUMNS, 4, learner->columns);
  write_little_endian(made.data + TOKENS, 8, learned->tokens);
  memcpy(made.data + SHARES, learned->shares, sizeof learned->shares); /* LiteRT's machines are little-endian */
  memcpy(made.data + WEIGHTS, learned->weights, weights_size);
  write_little_endian(made.data + WEIGHTS + weights_size, 4, learned->words_size);
  memcpy(made.data + words, learned->words, learned->words_size);
  ks_sha256(made.data, made.size - KS_SHA256_SIZE, made.data + made.size - KS_SHA256_SIZE);
  *file = made;
  return KS_OK;
}

static bool are_finite(const uint8_t *numbers, size_t count) {
  for (size_t i = 0; i < count; i++) {
    float number;
    memcpy(&number, numbers + i * sizeof number, sizeof number);
    if (!isfinite(number)) return false;
  }
  return true;
}

/* Checks that the file is a whole one of this format. */
static ks_status check_whole(ks_bytes file, const char *name, ks_error *error) {
  if (file.size < sizeof MAGIC - 1 || memcmp(file.data, MAGIC, sizeof MAGIC - 1))
    return ks_fail(error, KS_BAD_FILE, "%s is not a file of learned weights, which begins with KSLEARN1", name);
  if (file.size < sizeof MAGIC || file.data[SHA256 - 1] != FORMAT)
    return ks_fail(error, KS_BAD_FILE, "%s must have format 1; update this program, or delete it and learn again", name);
  uint8_t sum[KS_SHA256_SIZE];
  if (file.size >= SHARES + KS_SHA256_SIZE) {
    ks_sha256(file.data, file.size - KS_SHA256_SIZE, sum);
    if (!memcmp(sum, file.data + file.size - KS_SHA256_SIZE, KS_SHA256_SIZE)) return KS_OK;
  }
  return ks_fail(error, KS_BAD_FILE, "%s is damaged: its SHA-256 differs; delete it and learn again", name);
}

ks_status ks_read_learned(const ks_learner *learner, ks_bytes file, const char *name, ks_learned *learned, ks_error *error) {
  size_t count = learner->rows * learner->columns, words = WEIGHTS + count * sizeof(float) + 4;
  TRY(check_whole(file, name, error));
  if (memcmp(file.data + SHA256, learner->sha256, KS_SHA256_SIZE))
    return ks_fail(error, KS_BAD_FILE, "%s belongs to another model: use that model, or learn again in another file", name);
  if (ks_little_endian(file.data + ROWS, 4) != learner->rows || ks_little_endian(file.data + COLUMNS, 4) != learner->columns ||
      file.size < words + KS_SHA256_SIZE || ks_little_endian(file.data + words - 4, 4) != file.size - words - KS_SHA256_SIZE)
    return ks_fail(error, KS_BAD_FILE, "%s is damaged: it must hold %zu x %zu weights; delete it and learn again", name, learner->rows,
                   learner->columns);
  if (!are_finite(file.data + SHARES, KS_SHARES + count))
    return ks_fail(error, KS_BAD_FILE, "%s is damaged: its numbers must be finite; delete it and learn again", name);
  *learned = (ks_learned){.tokens = ks_little_endian(file.data + TOKENS, 4) |
                                    (uint64_t)ks_little_endian(file.data + TOKENS + 4, 4) << 32,
                          .weights = file.data + WEIGHTS,
                          .words = (const char *)file.data + words,
                          .words_size = file.size - words - KS_SHA256_SIZE};
  memcpy(learned->shares, file.data + SHARES, sizeof learned->shares);
  return KS_OK;
}

size_t ks_largest_learned(const ks_learner *learner) {
  enum { MOST_WORD_BYTES = 1 << 20 };
  return WEIGHTS + learner->rows * learner->columns * sizeof(float) + 4 + MOST_WORD_BYTES + KS_SHA256_SIZE;
}
