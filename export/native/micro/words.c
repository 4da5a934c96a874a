/* The words that suggestions continue and spell. */
#include "words.h"

/* Returns the class of the first character of a token after an optional space. */
static ks_class class_of_token(const char *token, size_t size) {
  size_t ignored, space = size && *token == ' ';
  return ks_class_at(token + space, token + size, &ignored);
}

static bool is_one_apostrophe(const char *token, size_t size) {
  uint32_t found;
  return ks_character(token, token + size, &found) == size && size && ks_is_apostrophe(found);
}

/* Returns the size of the word that was begun at the end of a text, at the level KS_WORDS. */
static size_t begun_token(const char *text, size_t size) {
  const char *last = text, *before = text, *end = text + size;
  for (const char *next = text; next < end; next += ks_token_size(KS_WORDS, next, end)) {
    before = last;
    last = next;
  }
  size_t last_size = (size_t)(end - last);
  if (class_of_token(last, last_size) == KS_WORD || (last_size == 1 && *last == ' ')) return last_size;
  bool is_joint = last > before && is_one_apostrophe(last, last_size) &&
                  class_of_token(before, (size_t)(last - before)) == KS_WORD;
  return is_joint ? (size_t)(end - before) : 0;
}

static size_t begun_word(const char *text, size_t size) {
  size_t begun = 0;
  while (begun < size && !ks_is_white(text[size - 1 - begun])) begun++;
  return begun;
}

/* Returns the size of the longest suffix WORD+ (apostrophe WORD+)* apostrophe? of a text, and the state after it. */
static size_t begun_letters(const char *text, size_t size, ks_place *place) {
  const char *end = text + size, *start = end; /* of the suffix */
  size_t next;
  bool was_word = false, was_apostrophe = false;
  *place = size ? KS_OPEN : KS_SPACED;
  for (const char *at = text; at < end; at += next) {
    uint32_t found = 0;
    next = ks_character(at, end, &found);
    ks_class class = ks_class_of(found);
    bool is_apostrophe = ks_is_apostrophe(found);
    if (class == KS_WORD) {
      if (!was_word && !was_apostrophe) start = at;
      *place = KS_INSIDE;
    } else if (is_apostrophe && was_word) {
      *place = KS_JOINED;
    } else {
      start = end;
      *place = class == KS_SPACE ? KS_SPACED : KS_OPEN;
    }
    was_apostrophe = is_apostrophe && was_word;
    was_word = class == KS_WORD;
  }
  return (size_t)(end - start);
}

size_t ks_begun_size(ks_level level, const char *text, size_t size, ks_place *place) {
  if (level == KS_CHARACTERS) return begun_letters(text, size, place);
  *place = KS_OPEN;
  return level == KS_WORDS ? begun_token(text, size) : begun_word(text, size);
}

ks_kind ks_kind_of(const char *text, size_t size) {
  uint32_t character = 0;
  ks_character(text, text + size, &character);
  if (character == ' ') return KS_BLANK;
  if (ks_is_apostrophe(character)) return KS_APOSTROPHE;
  ks_class class = ks_class_of(character);
  return class == KS_WORD ? KS_LETTER : class == KS_SINGLE ? KS_WHOLE : KS_SIGN;
}

bool ks_may_follow(ks_place place, ks_kind kind) {
  if (kind == KS_LETTER) return true;
  if (place == KS_INSIDE) return kind == KS_APOSTROPHE;
  if (place == KS_JOINED) return false;
  return kind == KS_WHOLE || (kind == KS_BLANK && place == KS_OPEN);
}

ks_place ks_place_after(ks_kind kind) {
  return kind == KS_LETTER ? KS_INSIDE : kind == KS_APOSTROPHE ? KS_JOINED : KS_SPACED;
}

bool ks_is_word(ks_level level, const char *text, size_t size) {
  ks_class class = class_of_token(text, size);
  return level != KS_WORDS || class == KS_WORD || class == KS_SINGLE;
}
