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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (!size) return 0;
  switch (*data % 3) {
    case 0: read_bundle(data + 1, size - 1); break;
    case 1: read_vocabulary_and_text(data + 1, size - 1); break;
    default: read_json((const char *)data + 1, size - 1);
  }
  return 0;
}
