/* Runs the parts of export/native that need no LiteRT, for tests/export/native/test_native.py:
 *     native_parts random          stdin: pairs of a seed and a position; stdout: the word and the uniform number of each
 *     native_parts tokens VOCAB    stdin: texts, each followed by a zero; stdout: one line of token ids per text
 *     native_parts bundle FILE...  stdout: one line per file: the size of the model and of the vocabulary, or a sentence
 *     native_parts learned ROWS COLUMNS FILE...
 *                                  of a model whose SHA-256 is zeros; stdout: one line per file: the tokens, the shares, the
 *                                  first and the last weight, and the own words in hexadecimal digits; or a sentence. A file
 *                                  that is read is written again as FILE.again
 *     native_parts read FILE       stdout: 0, or a sentence
 *     native_parts write FILE      stdin: what to write; stdout: 0, or a sentence
 *     native_parts own_words       stdin: texts, each followed by a zero; stdout: their own words as text
 *     native_parts own_again FILE...
 *                                  of own words as text; stdout: one line per file: 0 and how it is written again, in
 *                                  hexadecimal digits; or a sentence
 *     native_parts json            stdin: texts, each followed by a zero; stdout: one line per text: whether it is an object,
 *                                  and its member "a" as a number and as an integer
 * A sentence on stderr and the status 1 mean an error. */
#include <inttypes.h>
#include <signal.h>
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

static void print_learned(const ks_learner *learner, const char *path) {
  ks_learned learned;
  char again[1024];
  ks_bytes content = read_all(fopen(path, "rb")), made;
  ks_status status = ks_read_learned(learner, content, path, &learned, &error);
  if (status) {
    printf("%d %s\n", (int)status, error.text);
  } else {
    float first, last;
    memcpy(&first, learned.weights, 4);
    memcpy(&last, learned.weights + 4 * (learner->rows * learner->columns - 1), 4);
    printf("0 %" PRIu64, learned.tokens);
    for (int i = 0; i < KS_SHARES; i++) printf(" %.9g", (double)learned.shares[i]);
    printf(" %.9g %.9g ", (double)first, (double)last);
    for (size_t i = 0; i < learned.words_size; i++) printf("%02x", (unsigned)(uint8_t)learned.words[i]);
    putchar('\n');
    snprintf(again, sizeof again, "%s.again", path);
    if (ks_make_learned(learner, &learned, &made, &error) || ks_write_file(again, path, made, &error)) exit(refuse());
    free(made.data);
  }
  free(content.data);
}

static int print_all_learned(int count, char **arguments) {
  static const uint8_t zeros[KS_SHA256_SIZE];
  const ks_learner learner = {zeros, strtoul(arguments[2], NULL, 10), strtoul(arguments[3], NULL, 10)};
  for (int i = 4; i < count; i++) print_learned(&learner, arguments[i]);
  return 0;
}

static int print_read(const char *path) {
  ks_bytes content = {NULL, 0};
  ks_status status = ks_read_file(path, path, "a file", 1 << 20, &content, &error);
  printf("%d %s\n", (int)status, status ? error.text : "");
  free(content.data);
  return 0;
}

static int print_written(const char *path) {
  signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files is then an error */
  ks_bytes content = read_all(stdin);
  ks_status status = ks_write_file(path, path, content, &error);
  printf("%d %s\n", (int)status, status ? error.text : "");
  free(content.data);
  return 0;
}

static int print_own_words(void) {
  ks_own_words *own = ks_copy_own_words(NULL), *copy;
  ks_bytes texts = read_all(stdin);
  ks_status status = KS_OK;
  char *written;
  size_t size;
  for (size_t start = 0; !status && start < texts.size; start += size + 1) {
    const char *text = (const char *)texts.data + start;
    size = strlen(text);
    status = ks_count_own_words(own, text, size, &error);
    copy = ks_copy_own_words(own); /* as each call of ks_learn makes one */
    ks_free_own_words(own);
    own = copy;
  }
  if (!status) status = ks_write_own_words(own, &written, &size, &error);
  if (status) return refuse();
  fwrite(written, 1, size, stdout);
  free(written);
  free(texts.data);
  ks_free_own_words(own);
  return 0;
}

static void print_own_again(const char *path) {
  ks_own_words *own = ks_copy_own_words(NULL);
  ks_bytes content = read_all(fopen(path, "rb"));
  char *written;
  size_t size;
  ks_status status = ks_read_own_words(own, (const char *)content.data, content.size, "the file", &error);
  if (!status) status = ks_write_own_words(own, &written, &size, &error);
  printf("%d ", (int)status);
  for (size_t i = 0; !status && i < size; i++) printf("%02x", (unsigned)(uint8_t)written[i]);
  puts(status ? error.text : "");
  if (!status) free(written);
  free(content.data);
  ks_free_own_words(own);
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
  if (!strcmp(kind, "read")) return print_read(path);
  if (!strcmp(kind, "write")) return print_written(path);
  if (!strcmp(kind, "own_words")) return print_own_words();
  for (int i = 2; i < count && !strcmp(kind, "own_again"); i++) print_own_again(arguments[i]);
  if (!strcmp(kind, "own_again")) return 0;
  if (!strcmp(kind, "learned")) return print_all_learned(count, arguments);
  for (int i = 2; i < count; i++) print_bundle(arguments[i]);
  return 0;
}
