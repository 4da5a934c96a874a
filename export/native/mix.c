/* Suggestions of the model, mixed with the words that the user writes; keras_seq/generation/suggest.py is the reference. */
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* As in keras_seq/generation/own_words.py. */
static const double WORD_SHARE = 0.3, WORD_DOUBT = 30, PAIR_SHARE = 0.4, PAIR_DOUBT = 3;

/* A suggestion: one of the model, or an own word. */
typedef struct {
  const char *rest; /* of the word, after what was begun */
  size_t size, rank;
  double probability;
  ks_answer *answer; /* NULL of an own word */
} Candidate;

typedef struct {
  const ks_model *model;
  const char *begun; /* without a space before it */
  size_t begun_size;
  bool adds_words; /* otherwise the own words only make those of the model likelier */
  Candidate *candidates;
  size_t count, model_count;
  uint32_t pairs[KS_MOST_OWN_WORDS]; /* how often each word followed the word before */
} Mix;

/* ---- the word before ---- */

/* Returns the class of the last character of a text, KS_NOTHING if there is none; gives the size of the text before it. */
static ks_class last_class(const char *text, size_t size, size_t *before, uint32_t *character) {
  *before = size;
  if (!size) return KS_NOTHING;
  do --*before;
  while (*before && ((uint8_t)text[*before] & 0xC0) == 0x80);
  ks_character(text + *before, text + size, character);
  return ks_class_of(*character);
}

/* Returns where the run of WORD characters at the end of a text begins. */
static size_t run_begin(const char *text, size_t size) {
  uint32_t character;
  for (size_t before; last_class(text, size, &before, &character) == KS_WORD;) size = before;
  return size;
}

/* Gives the word at the end of a text, before at most one space; returns its size, 0 if there is none. */
static size_t word_before(const char *text, size_t size, const char **word) {
  uint32_t character = 0;
  size_t end = size - (size && text[size - 1] == ' '), before, start = run_begin(text, end), next = start;
  if (start == end && last_class(text, end, &before, &character) == KS_SINGLE) start = before;
  while (next < end && last_class(text, start, &before, &character) != KS_NOTHING && ks_is_apostrophe(character) &&
         (next = run_begin(text, before)) < before)
    start = next;
  *word = text + start;
  return end - start;
}

/* ---- mixing ---- */

static bool has_rest(const Candidate *candidate, const char *rest, size_t size) {
  return candidate->size == size && !memcmp(candidate->rest, rest, size);
}

/* Returns whether an own word completes what was begun; gives the rest of it. */
static bool fits(const Mix *mix, const ks_own_word *word, const char **rest) {
  const char *text = mix->model->own_words->texts + word->start;
  *rest = text + mix->begun_size;
  return word->size > mix->begun_size && !memcmp(text, mix->begun, mix->begun_size) &&
         ks_can_read(&mix->model->vocabulary, text, word->size);
}

/* Makes the model's suggestions candidates. */
static void add_answers(Mix *mix, ks_answer *answers, size_t count, bool has_space) {
  for (size_t i = 0; i < count; i++) {
    size_t space = has_space && *answers[i].insert == ' ';
    mix->candidates[i] =
        (Candidate){answers[i].insert + space, answers[i].insert_size - space, i, answers[i].probability, &answers[i]};
  }
  mix->count = mix->model_count = count;
}

/* Adds a share to the probability of a word. */
static void add_share(Mix *mix, const char *rest, size_t size, double share) {
  for (size_t i = 0; i < mix->model_count; i++) {
    if (!has_rest(&mix->candidates[i], rest, size)) continue;
    mix->candidates[i].probability += share;
    return;
  }
  if (mix->adds_words) {
    mix->candidates[mix->count] = (Candidate){rest, size, mix->count, share, NULL};
    mix->count++;
  }
}

/* Mixes in the own words that fit. */
static void add_own_words(Mix *mix) {
  const ks_own_words *own = mix->model->own_words;
  const char *rest;
  uint64_t words = 0, pairs = 0;
  for (size_t i = 0; i < own->word_count; i++) {
    if (!fits(mix, &own->words[i], &rest)) continue;
    words += own->words[i].count;
    pairs += mix->pairs[i];
  }
  if (!words) return;
  double n = (double)words, m = (double)pairs;
  double word_share = WORD_SHARE * n / (n + (mix->begun_size ? 0 : WORD_DOUBT)), pair_share = PAIR_SHARE * m / (m + PAIR_DOUBT);
  for (size_t i = 0; i < mix->model_count; i++) mix->candidates[i].probability *= 1 - word_share - pair_share;
  for (size_t i = 0; i < own->word_count; i++) {
    if (!fits(mix, &own->words[i], &rest)) continue;
    double share = word_share * own->words[i].count / n + (mix->pairs[i] ? pair_share * mix->pairs[i] / m : 0);
    add_share(mix, rest, own->words[i].size - mix->begun_size, share);
  }
}

static int compare_candidates(const void *left, const void *right) {
  const Candidate *a = left, *b = right;
  if (a->probability < b->probability || a->probability > b->probability) return a->probability < b->probability ? 1 : -1;
  return a->rank < b->rank ? -1 : 1;
}

/* Replaces the answers by the likeliest candidates, at most `wanted`. */
static ks_status take_likeliest(const Mix *mix, size_t wanted, ks_answer *answers, size_t *found, ks_error *error) {
  ks_answer taken[KS_MOST_SUGGESTIONS];
  size_t count = mix->count < wanted ? mix->count : wanted;
  for (size_t i = 0; i < count; i++) {
    const Candidate *candidate = &mix->candidates[i];
    const char *insert = candidate->answer ? candidate->answer->insert : candidate->rest;
    size_t size = candidate->answer ? candidate->answer->insert_size : candidate->size;
    taken[i] = (ks_answer){malloc(size), size, candidate->probability};
    if (!taken[i].insert) {
      while (i--) free(taken[i].insert);
      return ks_no_memory(error);
    }
    memcpy(taken[i].insert, insert, size);
  }
  for (size_t i = 0; i < *found; i++) free(answers[i].insert);
  memcpy(answers, taken, count * sizeof *taken);
  *found = count;
  return KS_OK;
}

/* Counts how often each word followed a word. */
static void count_pairs(Mix *mix, const char *before, size_t size) {
  const ks_own_words *own = mix->model->own_words;
  size_t first = ks_own_word_at(own, before, size);
  for (size_t i = 0; i < own->pair_count; i++)
    if (own->pairs[i].first == first) mix->pairs[own->pairs[i].second] = own->pairs[i].count;
}

static bool is_after_space(const char *text, size_t size) {
  size_t before;
  uint32_t character;
  ks_class class = last_class(text, size, &before, &character);
  return class == KS_SPACE || class == KS_NOTHING;
}

ks_status ks_mix_own_words(const ks_model *model, const char *text, size_t size, size_t begun, size_t wanted,
                           ks_answer *answers, size_t *found, ks_error *error) {
  size_t space = begun && text[size - begun] == ' ', start = size - begun + space; /* of the word that was begun */
  Mix *mix = calloc(1, sizeof *mix);
  Candidate *candidates = calloc(*found + model->own_words->word_count, sizeof *candidates);
  ks_status status = mix && candidates ? KS_OK : ks_no_memory(error);
  if (!status) {
    const char *before = text;
    *mix = (Mix){.model = model, .begun = text + start, .begun_size = size - start, .candidates = candidates};
    mix->adds_words = mix->begun_size || is_after_space(text, size);
    size_t before_size = word_before(text, start, &before);
    count_pairs(mix, before, before_size);
    add_answers(mix, answers, *found, !begun);
    add_own_words(mix);
    qsort(candidates, mix->count, sizeof *candidates, compare_candidates);
    status = take_likeliest(mix, wanted, answers, found, error);
  }
  free(candidates);
  free(mix);
  return status;
}
