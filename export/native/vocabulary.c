/* The vocabulary file, and texts as token ids. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { MOST_TOKENS = 1 << 19 };

static int compare_bytes(const void *left, const void *right) {
  const ks_token *a = left, *b = right;
  return ks_order(a->text, a->size, b->text, b->size);
}

/* Replaces the escapes \n, \r and \x5c in place; gives the new size. Returns false if there is another escape. */
static bool unescape(char *text, size_t size, size_t *written) {
  *written = 0;
  for (size_t i = 0; i < size; i++) {
    if (text[i] != '\\') {
      text[(*written)++] = text[i];
    } else if (i + 1 < size && (text[i + 1] == 'n' || text[i + 1] == 'r')) {
      text[(*written)++] = text[++i] == 'n' ? '\n' : '\r';
    } else if (i + 3 < size && !memcmp(text + i + 1, "x5c", 3)) {
      text[(*written)++] = '\\';
      i += 3;
    } else {
      return false;
    }
  }
  return true;
}

static bool is_token(const ks_vocabulary *vocabulary, int32_t id, const char *text) {
  ks_token wanted = {text, strlen(text), 0};
  return id < vocabulary->count && !compare_bytes(&wanted, &vocabulary->by_id[id]);
}

static int32_t id_of(const ks_vocabulary *vocabulary, const char *text) {
  for (int32_t id = 0; id < vocabulary->count; id++)
    if (is_token(vocabulary, id, text)) return id;
  return -1;
}

bool ks_is_silent(const ks_vocabulary *vocabulary, int32_t id) {
  return id == vocabulary->pad || id == vocabulary->start || id == vocabulary->eos;
}

static bool is_reserved(const ks_vocabulary *vocabulary, int32_t id) {
  return ks_is_silent(vocabulary, id) || id == vocabulary->unknown;
}

static bool begins_with(const ks_vocabulary *vocabulary, const char *const *tokens, int32_t count) {
  for (int32_t id = 0; id < count; id++)
    if (!is_token(vocabulary, id, tokens[id])) return false;
  return true;
}

static bool is_one_token(ks_level level, const ks_token *token) {
  return token->size && ks_token_size(level, token->text, token->text + token->size) == token->size;
}

/* Returns what a token is; the list of tokens alone decides it. */
static ks_level level_of(const ks_vocabulary *vocabulary) {
  static const char *const words[] = {"<pad>", "<unk>", "<s>", "<eos>"}, *const characters[] = {"<pad>", "<s>", "<eos>"};
  if (begins_with(vocabulary, words, 4)) return KS_WORDS;
  if (begins_with(vocabulary, characters, 3)) return KS_CHARACTERS;
  for (int32_t id = 0; id < vocabulary->count; id++)
    if (!is_reserved(vocabulary, id) && !is_one_token(KS_CHARACTERS, &vocabulary->by_id[id])) return KS_WHITE_SPACE;
  return KS_CHARACTERS;
}

/* Cuts the file into lines. */
static ks_status read_lines(ks_bytes content, const char *name, ks_vocabulary *vocabulary, ks_error *error) {
  char *line = vocabulary->content, *end = line + content.size;
  if (!content.size || end[-1] != '\n')
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged vocabulary: it is truncated", name);
  size_t count = 0, size;
  for (const char *at = line; at < end; at++) count += *at == '\n';
  if (count > MOST_TOKENS)
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged vocabulary: it has %zu tokens, more than the %d allowed", name, count,
                   MOST_TOKENS);
  size_t valid = ks_valid_size(line, content.size);
  if (valid != content.size || memchr(line, '\r', content.size))
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged vocabulary: it must be UTF-8 without carriage returns", name);
  vocabulary->by_id = calloc(count, sizeof(ks_token));
  vocabulary->by_text = calloc(count, sizeof(ks_token));
  if (!vocabulary->by_id || !vocabulary->by_text) return ks_no_memory(error);
  while (line < end) {
    char *after = memchr(line, '\n', (size_t)(end - line));
    if (!unescape(line, (size_t)(after - line), &size))
      return ks_fail(error, KS_BAD_FILE, "%s has a damaged vocabulary: line %" PRId32, name, vocabulary->count + 1);
    vocabulary->by_id[vocabulary->count] = (ks_token){line, size, vocabulary->count};
    vocabulary->count++;
    line = after + 1;
  }
  return KS_OK;
}

/* Requires the tokens to be those that a text can have, and distinct; sorts those that are not reserved. */
static ks_status sort_tokens(const char *name, ks_vocabulary *vocabulary, ks_error *error) {
  const char *damaged = "%s has a damaged vocabulary: line %" PRId32 " is not a token of its own";
  size_t count = (size_t)vocabulary->count;
  ks_token *sorted = vocabulary->by_text;
  memcpy(sorted, vocabulary->by_id, count * sizeof *sorted);
  qsort(sorted, count, sizeof *sorted, compare_bytes);
  for (size_t i = 1; i < count; i++)
    if (!compare_bytes(&sorted[i - 1], &sorted[i])) return ks_fail(error, KS_BAD_FILE, damaged, name, sorted[i].id + 1);
  const ks_token *first = vocabulary->by_id;
  if (first->size > 3 && !memcmp(first->text, "\xEF\xBB\xBF", 3)) /* a byte order mark */
    return ks_fail(error, KS_BAD_FILE, damaged, name, 1);
  for (size_t i = 0; i < count; i++) {
    if (is_reserved(vocabulary, sorted[i].id)) continue; /* never found in text: a text "<eos>" is not the token */
    if (!is_one_token(vocabulary->level, &sorted[i])) return ks_fail(error, KS_BAD_FILE, damaged, name, sorted[i].id + 1);
    sorted[vocabulary->text_count++] = sorted[i];
  }
  return KS_OK;
}

ks_status ks_read_vocabulary(ks_bytes content, const char *name, ks_vocabulary *vocabulary, ks_error *error) {
  *vocabulary = (ks_vocabulary){.content = (char *)content.data};
  TRY(read_lines(content, name, vocabulary, error));
  vocabulary->pad = id_of(vocabulary, "<pad>");
  vocabulary->start = id_of(vocabulary, "<s>");
  vocabulary->eos = id_of(vocabulary, "<eos>");
  vocabulary->unknown = id_of(vocabulary, "[UNK]");
  if (vocabulary->unknown < 0) vocabulary->unknown = id_of(vocabulary, "<unk>");
  if (vocabulary->start < 0 || vocabulary->eos < 0)
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged vocabulary: it has no <s> or <eos>", name);
  vocabulary->level = level_of(vocabulary);
  return sort_tokens(name, vocabulary, error);
}

void ks_free_vocabulary(ks_vocabulary *vocabulary) {
  free(vocabulary->by_id);
  free(vocabulary->by_text);
  free(vocabulary->content);
}

/* Returns the id of a token that a text can have; that of the unknown token if it is not in the vocabulary; or -1. */
static int32_t find(const ks_vocabulary *vocabulary, const char *text, size_t size) {
  ks_token wanted = {text, size, 0};
  ks_token *found = bsearch(&wanted, vocabulary->by_text, (size_t)vocabulary->text_count, sizeof wanted, compare_bytes);
  if (found) return found->id;
  /* Split at white space, a text can have a word that is spelled like a reserved token. It is not that token. */
  const int32_t silent[] = {vocabulary->pad, vocabulary->start, vocabulary->eos};
  for (size_t i = 0; vocabulary->level == KS_WHITE_SPACE && i < sizeof silent / sizeof *silent; i++)
    if (silent[i] >= 0 && !compare_bytes(&wanted, &vocabulary->by_id[silent[i]])) return -1;
  return vocabulary->unknown;
}

static ks_status refuse_token(const ks_vocabulary *vocabulary, const char *argument, const char *text, size_t size,
                              ks_error *error) {
  uint32_t found = 0;
  if (vocabulary->level == KS_CHARACTERS) {
    ks_character(text, text + size, &found);
    return ks_fail(error, KS_BAD_TEXT, "%s must hold only characters of the vocabulary. Received: '%.*s' (U+%04" PRIX32 ")",
                   argument, (int)size, text, found);
  }
  size_t shown = ks_valid_size(text, size < 40 ? size : 40);
  return ks_fail(error, KS_BAD_TEXT, "%s must hold only words of the vocabulary. Received: '%.*s'%s", argument, (int)shown, text,
                 shown < size ? "..." : "");
}

bool ks_can_read(const ks_vocabulary *vocabulary, const char *text, size_t size) {
  const char *end = text + size;
  for (size_t token; text < end; text += token ? token : 1) { /* 0: white space between two words */
    token = ks_token_size(vocabulary->level, text, end);
    if (token && find(vocabulary, text, token) < 0) return false;
  }
  return true;
}

ks_status ks_encode_text(const ks_vocabulary *vocabulary, const char *argument, const char *text, size_t size, int32_t first,
                         int32_t **ids, size_t *count, ks_error *error) {
  size_t valid = ks_valid_size(text, size), written = 0;
  if (valid != size) return ks_fail(error, KS_BAD_TEXT, "%s must be UTF-8; byte %zu is not", argument, valid);
  int32_t *found = size < SIZE_MAX / sizeof *found - 1 ? malloc((size + 1) * sizeof *found) : NULL; /* one per byte at most */
  if (!found) return ks_no_memory(error);
  if (first >= 0) found[written++] = first;
  const char *end = text + size;
  while (text < end) {
    size_t token = ks_token_size(vocabulary->level, text, end);
    if (!token) { /* white space between two words */
      text++;
      continue;
    }
    int32_t id = find(vocabulary, text, token);
    if (id < 0) {
      free(found);
      return refuse_token(vocabulary, argument, text, token, error);
    }
    found[written++] = id;
    text += token;
  }
  *ids = found;
  *count = written;
  return KS_OK;
}
