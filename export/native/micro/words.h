/* The words that suggestions continue and spell; keras_seq/generation/suggest.py is the reference. */
#ifndef KERAS_SEQ_WORDS_H
#define KERAS_SEQ_WORDS_H

#include "tokens.h"

/* Where a spelling stands: after a sign, after a space, inside a word, after an apostrophe inside a word. */
typedef enum { KS_OPEN, KS_SPACED, KS_INSIDE, KS_JOINED } ks_place;

/* What a token of one character is: never suggested, of a word, U+0020, a word of its own, any other. */
typedef enum { KS_NEVER, KS_LETTER, KS_APOSTROPHE, KS_BLANK, KS_WHOLE, KS_SIGN } ks_kind;

/* Returns the size of the word that was begun at the end of a text; gives the place after it at the level KS_CHARACTERS. */
size_t ks_begun_size(ks_level level, const char *text, size_t size, ks_place *place);
/* Returns the kind of a token of one character that is not reserved. */
ks_kind ks_kind_of(const char *text, size_t size);
bool ks_may_follow(ks_place place, ks_kind kind);
ks_place ks_place_after(ks_kind kind);
/* Returns whether a token may be suggested as a whole: at the level KS_WORDS, one that begins a word. */
bool ks_is_word(ks_level level, const char *text, size_t size);

#endif
