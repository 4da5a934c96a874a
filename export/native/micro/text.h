/* What the files about text share. */
#ifndef KERAS_SEQ_MICRO_TEXT_H
#define KERAS_SEQ_MICRO_TEXT_H

#include "keras_seq_micro.h"

typedef struct {
  const char *text;
  size_t size;
} ks_text;

/* Returns the text of a token, without a space between words. */
ks_text ks_micro_text_of(const ks_micro_vocabulary *vocabulary, uint32_t token);
/* Requires a model of text, and UTF-8. */
ks_micro_status ks_micro_check_text(ks_micro_decoder *decoder, const char *text, size_t size);

#endif
