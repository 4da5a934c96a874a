/* Characters and word tokens, as in keras_seq/data/tokens.py. */
#ifndef KERAS_SEQ_TOKENS_H
#define KERAS_SEQ_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { KS_CHARACTERS, KS_WORDS, KS_WHITE_SPACE } ks_level;
typedef enum { KS_WORD, KS_SPACE, KS_PUNCTUATION, KS_SINGLE, KS_NOTHING } ks_class;

/* Decodes the UTF-8 character at `text`; returns its size in bytes, or 0 at the end or if it is not valid. */
size_t ks_character(const char *text, const char *end, uint32_t *found);
size_t ks_valid_size(const char *text, size_t size); /* the bytes before the first that is not UTF-8 */
ks_class ks_class_of(uint32_t character);
ks_class ks_class_at(const char *text, const char *end, size_t *size);
bool ks_is_apostrophe(uint32_t character);
bool ks_is_white(char byte); /* white space between words, at the level KS_WHITE_SPACE */
/* Returns the size of the token at `text`; 0 if it is white space between two tokens, or not valid. */
size_t ks_token_size(ks_level level, const char *text, const char *end);
/* Orders texts by their bytes: negative, 0 or positive, as memcmp does. */
int ks_order(const char *left, size_t left_size, const char *right, size_t right_size);

#endif
