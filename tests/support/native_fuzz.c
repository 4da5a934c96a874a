/* What libFuzzer gives to the readers of export/native: the first byte chooses one of them. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_vocabulary_and_text(const uint8_t *data, size_t size) {
  ks_vocabulary vocabulary;
  ks_error error;
  const uint8_t *split = memchr(data, 0xFF, size); /* a vocabulary, 0xFF, a text */
  size_t first = split ? (size_t)(split - data) : size;
  uint8_t *content = malloc(first + 1);
  if (!content) return;
  memcpy(content, data, first);
  ks_status status = ks_read_vocabulary((ks_bytes){content, first}, "the file", &vocabulary, &error);
  if (!status && split) {
    int32_t *ids;
    size_t count;
    if (!ks_encode_text(&vocabulary, "text", (const char *)split + 1, size - first - 1, vocabulary.start, &ids, &count, &error)) {
      for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary.count) abort();
      free(ids);
    }
  }
  ks_free_vocabulary(&vocabulary);
}

static void read_bundle(const uint8_t *data, size_t size) {
  ks_bundle bundle;
  ks_error error;
  if (ks_read_bundle((ks_bytes){(uint8_t *)(uintptr_t)data, size}, "the file", &bundle, &error)) return;
  if (bundle.model_bytes < 12 || bundle.model_bytes > size) abort();
  free(bundle.vocabulary.data);
}

static void read_json(const char *text, size_t size) {
  double number;
  int64_t integer;
  ks_json object = ks_json_object(text, size), member = ks_json_member(object, "format");
  if (member.start && (member.start < text || member.end > text + size || member.start >= member.end)) abort();
  ks_json_number(member, &number);
  ks_json_integer(member, &integer);
  ks_json_member(member, "a");
}

static void read_own_words(const char *text, size_t size) {
  ks_own_words *own = ks_copy_own_words(NULL);
  ks_error error;
  char *written;
  size_t written_size;
  if (own && !ks_read_own_words(own, text, size, "the file", &error)) {
    if (ks_write_own_words(own, &written, &written_size, &error)) abort();
    if (written_size != size || memcmp(written, text, size)) abort(); /* they have one form */
    free(written);
  }
  if (own && !ks_count_own_words(own, text, size, &error) && own->word_count > KS_MOST_OWN_WORDS) abort();
  ks_free_own_words(own);
}

/* The SHA-256 at the end is made right, because no change that is made blindly would keep it. */
static void read_learned(const uint8_t *data, size_t size) {
  enum { ROWS = 2, COLUMNS = 3 };
  static const uint8_t zeros[KS_SHA256_SIZE];
  const ks_learner learner = {zeros, ROWS, COLUMNS};
  ks_learned learned;
  ks_error error;
  ks_bytes file = {malloc(size + 1), size}, made;
  if (!file.data) return;
  memcpy(file.data, data, size);
  if (size >= KS_SHA256_SIZE) ks_sha256(data, size - KS_SHA256_SIZE, file.data + size - KS_SHA256_SIZE);
  if (!ks_read_learned(&learner, file, "the file", &learned, &error)) {
    if (ks_make_learned(&learner, &learned, &made, &error)) abort();
    if (made.size != size || memcmp(made.data, file.data, size)) abort(); /* each file has one form */
    free(made.data);
    read_own_words(learned.words, learned.words_size);
  }
  free(file.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!size) return 0;
  switch (*data % 4) {
    case 0: read_bundle(data + 1, size - 1); break;
    case 1: read_vocabulary_and_text(data + 1, size - 1); break;
    case 3: read_learned(data + 1, size - 1); break;
    default: read_json((const char *)data + 1, size - 1);
  }
  return 0;
}
