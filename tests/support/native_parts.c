/* Runs the parts of export/native that need no LiteRT, for tests/export/native/test_native.py:
 *     native_parts random          stdin: pairs of a seed and a position; stdout: the word and the uniform number of each
 *     native_parts tokens VOCAB    stdin: texts, each followed by a zero; stdout: one line of token ids per text
 *     native_parts bundle FILE...  stdout: one line per file: the size of the model and of the vocabulary, or a sentence
 *     native_parts json            stdin: texts, each followed by a zero; stdout: one line per text: whether it is an object,
 *                                  and its member "a" as a number and as an integer
 * A sentence on stderr and the status 1 mean an error. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static ks_error error;

static int refuse(void) {
  fprintf(stderr, "keras_seq: %s\n", error.text);
  return 1;
}

static ks_bytes read_all(FILE *file) {
  enum { ROOM = 64 << 20 };
  uint8_t *data = malloc(ROOM), *exact;
  if (!file || !data) abort();
  size_t size = fread(data, 1, ROOM, file);
  exact = malloc(size ? size : 1); /* so that the sanitizer sees the first byte beyond */
  if (!exact) abort();
  memcpy(exact, data, size);
  free(data);
  return (ks_bytes){exact, size};
}

static int print_random(void) {
  long long seed;
  unsigned position;
  while (scanf("%lld %u", &seed, &position) == 2)
    printf("%08x %.9g\n", ks_threefry((uint64_t)seed, position), (double)ks_uniform((uint64_t)seed, position));
  return 0;
}

static int print_tokens(const char *path) {
  ks_vocabulary vocabulary;
  ks_bytes texts = read_all(stdin);
  FILE *file = fopen(path, "rb");
  ks_status status = ks_read_vocabulary(read_all(file), path, &vocabulary, &error);
  fclose(file);
  for (size_t start = 0; !status && start < texts.size;) {
    const char *text = (const char *)texts.data + start;
    int32_t *ids;
    size_t count, size = strlen(text);
    status = ks_encode_text(&vocabulary, "--prompt", text, size, -1, &ids, &count, &error);
    for (size_t i = 0; !status && i < count; i++) printf("%" PRId32 " ", ids[i]);
    if (status) break;
    putchar('\n');
    free(ids);
    start += size + 1;
  }
  free(texts.data);
  ks_free_vocabulary(&vocabulary);
  return status ? refuse() : 0;
}

static void print_bundle(const char *path) {
  ks_bundle bundle;
  ks_vocabulary vocabulary;
  FILE *file = fopen(path, "rb");
  ks_bytes content = read_all(file);
  fclose(file);
  ks_status status = ks_read_bundle(content, path, &bundle, &error);
  free(content.data);
  if (!status) {
    status = ks_read_vocabulary(bundle.vocabulary, path, &vocabulary, &error);
    ks_free_vocabulary(&vocabulary);
  }
  if (status) {
    printf("%d %s\n", (int)status, error.text);
  } else {
    printf("0 %zu %zu\n", bundle.model_bytes, bundle.vocabulary.size);
  }
}

static void print_json(const char *text, size_t size) {
  ks_json object = ks_json_object(text, size), member = ks_json_member(object, "a");
  double number;
  int64_t integer;
  printf("%d", object.start != NULL);
  if (ks_json_number(member, &number)) printf(" %.17g", number);
  if (ks_json_integer(member, &integer)) printf(" %" PRId64, integer);
  putchar('\n');
}

static int print_all_json(void) {
  ks_bytes texts = read_all(stdin);
  for (size_t start = 0, size; start < texts.size; start += size + 1) {
    const char *text = (const char *)texts.data + start;
    size = strlen(text);
    char *exact = malloc(size ? size : 1);
    if (!exact) abort();
    memcpy(exact, text, size);
    print_json(exact, size);
    free(exact);
  }
  free(texts.data);
  return 0;
}

int main(int count, char **arguments) {
  const char *kind = count > 1 ? arguments[1] : "", *path = count > 2 ? arguments[2] : "";
  if (!strcmp(kind, "random")) return print_random();
  if (!strcmp(kind, "tokens")) return print_tokens(path);
  if (!strcmp(kind, "json")) return print_all_json();
  for (int i = 2; i < count; i++) print_bundle(arguments[i]);
  return 0;
}
