/* The words that the user writes, so that suggestions learn them; keras_seq/generation/own_words.py is the reference.
 *
 * There are few: a search from the first to the last is fast enough beside the model. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

enum { NONE = KS_MOST_OWN_WORDS }; /* the index of no word */
static const uint32_t LARGEST_COUNT = INT32_MAX;

size_t ks_own_word_at(const ks_own_words *own, const char *text, size_t size) {
  size_t index = 0;
  while (index < own->word_count && (own->words[index].size != size || memcmp(own->texts + own->words[index].start, text, size)))
    index++;
  return index < own->word_count ? index : NONE;
}

size_t ks_own_pair_at(const ks_own_words *own, size_t first, size_t second) {
  size_t index = 0;
  while (index < own->pair_count && (own->pairs[index].first != first || own->pairs[index].second != second)) index++;
  return index;
}

/* ---- halving ---- */

/* Halves the counts of the pairs, drops those that reach 0 and those of dropped words; `moved` are the new indices. */
static void halve_pairs(ks_own_words *own, const uint16_t *moved) {
  size_t kept = 0;
  for (size_t i = 0; i < own->pair_count; i++) {
    ks_own_pair pair = own->pairs[i];
    pair.count /= 2;
    if (moved) {
      pair.first = moved[pair.first];
      pair.second = moved[pair.second];
    }
    if (pair.count && pair.first != NONE && pair.second != NONE) own->pairs[kept++] = pair;
  }
  own->pair_count = kept;
}

/* Halves all counts. Returns the new index of a word, or NONE. */
static size_t halve(ks_own_words *own, size_t followed) {
  uint16_t moved[KS_MOST_OWN_WORDS + 1];
  size_t kept = 0, size = 0;
  for (size_t i = 0; i < own->word_count; i++) {
    ks_own_word word = own->words[i];
    moved[i] = word.count > 1 ? (uint16_t)kept : NONE;
    if (moved[i] == NONE) continue;
    memmove(own->texts + size, own->texts + word.start, word.size);
    own->words[kept++] = (ks_own_word){size, word.size, word.count / 2};
    size += word.size;
  }
  moved[NONE] = NONE;
  own->word_count = kept;
  own->texts_size = size;
  halve_pairs(own, moved);
  return moved[followed];
}

/* ---- counting ---- */

static ks_status append_word(ks_own_words *own, const char *text, size_t size, uint32_t count, ks_error *error) {
  if (own->texts_size + size > own->texts_room) {
    size_t room = 2 * (own->texts_size + size);
    char *texts = realloc(own->texts, room);
    if (!texts) return ks_no_memory(error);
    own->texts = texts;
    own->texts_room = room;
  }
  memcpy(own->texts + own->texts_size, text, size);
  own->words[own->word_count++] = (ks_own_word){own->texts_size, size, count};
  own->texts_size += size;
  return KS_OK;
}

static void count_up(uint32_t *count) { *count += *count < LARGEST_COUNT; }

/* Counts a word; gives its index, and the new one of the word before. */
static ks_status add_word(ks_own_words *own, const char *text, size_t size, size_t *index, size_t *before, ks_error *error) {
  while ((*index = ks_own_word_at(own, text, size)) == NONE && own->word_count >= KS_MOST_OWN_WORDS) *before = halve(own, *before);
  if (*index != NONE) {
    count_up(&own->words[*index].count);
    return KS_OK;
  }
  *index = own->word_count;
  return append_word(own, text, size, 1, error);
}

static void add_pair(ks_own_words *own, size_t first, size_t second) {
  size_t index;
  while ((index = ks_own_pair_at(own, first, second)) == own->pair_count && own->pair_count >= KS_MOST_OWN_PAIRS) halve_pairs(own, NULL);
  if (index == own->pair_count) own->pairs[own->pair_count++] = (ks_own_pair){(uint16_t)first, (uint16_t)second, 0};
  count_up(&own->pairs[index].count);
}

static size_t characters_of(const char *text, size_t size) {
  size_t count = 0;
  for (size_t i = 0; i < size; i++) count += ((uint8_t)text[i] & 0xC0) != 0x80;
  return count;
}

/* Returns whether a token is a word that is counted. */
static bool is_counted(const char *token, size_t size) {
  return ks_is_word(KS_WORDS, token, size) && characters_of(token, size) - (*token == ' ') <= KS_LONGEST_OWN_WORD;
}

ks_status ks_count_own_words(ks_own_words *own, const char *text, size_t size, ks_error *error) {
  const char *end = text + size;
  size_t before = NONE, index;
  for (size_t token; text < end; text += token) {
    if (!(token = ks_token_size(KS_WORDS, text, end))) return ks_fail(error, KS_BAD_TEXT, "text must be UTF-8");
    if (!is_counted(text, token)) {
      before = NONE;
      continue;
    }
    size_t space = *text == ' ';
    TRY(add_word(own, text + space, token - space, &index, &before, error));
    if (before != NONE) add_pair(own, before, index);
    before = index;
  }
  return KS_OK;
}

/* ---- the text of the counts ---- */

static size_t digits_of(size_t number) {
  size_t digits = 1;
  while (number /= 10) digits++;
  return digits;
}

static char *write_number(char *at, size_t number, char after) {
  char *end = at + digits_of(number);
  for (char *digit = end; digit > at; number /= 10) *--digit = (char)('0' + number % 10);
  *end = after;
  return end + 1;
}

ks_status ks_write_own_words(const ks_own_words *own, char **text, size_t *size, ks_error *error) {
  enum { LINE = 24 }; /* three numbers at most, of 10, 4 and 4 digits */
  size_t lines = own->word_count + 1 + own->pair_count;
  char *made = malloc(own->texts_size + lines * LINE), *at = made;
  if (!made) return ks_no_memory(error);
  for (size_t i = 0; i < own->word_count; i++) {
    const ks_own_word *word = &own->words[i];
    at = write_number(at, word->count, ' ');
    memcpy(at, own->texts + word->start, word->size);
    at += word->size;
    *at++ = '\n';
  }
  *at++ = '\n';
  for (size_t i = 0; i < own->pair_count; i++) {
    const ks_own_pair *pair = &own->pairs[i];
    at = write_number(at, pair->count, ' ');
    at = write_number(at, pair->first, ' ');
    at = write_number(at, pair->second, '\n');
  }
  *text = made;
  *size = (size_t)(at - made);
  return KS_OK;
}

/* A line of the text that is read. */
typedef struct {
  const char *name; /* of the file, in messages */
  size_t number;    /* from 1 */
  const char *at, *end;
} Line;

static ks_status malformed(const Line *line, const char *expected, ks_error *error) {
  return ks_fail(error, KS_BAD_FILE, "%s is damaged: own words, line %zu: %s; delete it and learn again", line->name, line->number, expected);
}

/* Reads a number without a zero before it, and the character `after`, unless that is 0. */
static bool read_number(Line *line, uint32_t least, uint32_t most, char after, uint32_t *number) {
  const char *start = line->at;
  uint64_t found = 0;
  while (line->at < line->end && *line->at >= '0' && *line->at <= '9' && found <= most) found = found * 10 + (uint64_t)(*line->at++ - '0');
  size_t digits = (size_t)(line->at - start);
  if (!digits || digits != digits_of(found) || found < least || found > most) return false;
  *number = (uint32_t)found;
  if (!after) return line->at == line->end;
  return line->at < line->end && *line->at++ == after;
}

static ks_status read_word(ks_own_words *own, Line *line, ks_error *error) {
  uint32_t count;
  if (own->word_count >= KS_MOST_OWN_WORDS) return malformed(line, "there must be at most 2,048 words", error);
  if (!read_number(line, 1, LARGEST_COUNT, ' ', &count)) return malformed(line, "a count must be 1 to 2,147,483,647", error);
  size_t size = (size_t)(line->end - line->at);
  if (!size || *line->at == ' ' || ks_token_size(KS_WORDS, line->at, line->end) != size || !is_counted(line->at, size))
    return malformed(line, "a word of at most 64 characters must follow the count", error);
  if (ks_own_word_at(own, line->at, size) != NONE) return malformed(line, "a word must not occur twice", error);
  return append_word(own, line->at, size, count, error);
}

static ks_status read_pair(ks_own_words *own, Line *line, ks_error *error) {
  uint32_t count, first, second, most = (uint32_t)own->word_count;
  if (own->pair_count >= KS_MOST_OWN_PAIRS) return malformed(line, "there must be at most 8,192 pairs", error);
  if (!read_number(line, 1, LARGEST_COUNT, ' ', &count)) return malformed(line, "a count must be 1 to 2,147,483,647", error);
  if (!most || !read_number(line, 0, most - 1, ' ', &first) || !read_number(line, 0, most - 1, 0, &second)) {
    char expected[80];
    snprintf(expected, sizeof expected, "two indices of words, below %" PRIu32 ", must follow the count of a pair", most);
    return malformed(line, expected, error);
  }
  if (ks_own_pair_at(own, first, second) < own->pair_count) return malformed(line, "a pair must not occur twice", error);
  own->pairs[own->pair_count++] = (ks_own_pair){(uint16_t)first, (uint16_t)second, count};
  return KS_OK;
}

ks_status ks_read_own_words(ks_own_words *own, const char *text, size_t size, const char *name, ks_error *error) {
  const char *end = text + size;
  bool has_words = false; /* all of them, up to the empty line */
  Line line = {.name = name};
  while (text < end) {
    line.number++;
    line.at = text;
    line.end = memchr(text, '\n', (size_t)(end - text));
    if (!line.end) return malformed(&line, "the last line must end in a line feed", error);
    text = line.end + 1;
    if (has_words) {
      TRY(read_pair(own, &line, error));
    } else if (line.at == line.end) {
      has_words = true;
    } else {
      TRY(read_word(own, &line, error));
    }
  }
  line.number++;
  return has_words ? KS_OK : malformed(&line, "an empty line must follow the words", error);
}

/* ---- memory ---- */

ks_own_words *ks_copy_own_words(const ks_own_words *own) {
  ks_own_words *copy = calloc(1, sizeof *copy);
  if (!copy || !own) return copy;
  memcpy(copy, own, sizeof *copy);
  copy->texts_room = own->texts_size;
  copy->texts = malloc(own->texts_size + 1);
  if (!copy->texts) {
    free(copy);
    return NULL;
  }
  if (own->texts_size) memcpy(copy->texts, own->texts, own->texts_size);
  return copy;
}

void ks_free_own_words(ks_own_words *own) {
  if (own) free(own->texts);
  free(own);
}
