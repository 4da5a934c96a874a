/* A decoder of small recurrent language models without any runtime: C99, no heap, no floating point, no library but memcpy.
 *
 *   #include "keras_seq_micro.h"
 *   #include "shakespeare.h"                          // of `keras-seq export --format=c`; include it in one file
 *
 *   static int16_t memory[SHAKESPEARE_MEMORY / 2];
 *   ks_micro_decoder decoder;
 *   if (ks_micro_open(&decoder, &shakespeare, memory, sizeof memory)) ...
 *   if (ks_micro_prompt(&decoder, "ROMEO:", 6)) ...
 *   ks_micro_options options = {SHAKESPEARE_SETTINGS, 7, 200};
 *   ks_micro_write(&decoder, &options, print, NULL);
 *
 * The same seed gives the same text on every machine. A decoder is used by one thread at a time; several share a model.
 *
 * Names begin with ks_micro_ and KS_MICRO_, those about characters and words (tokens.h) with ks_ and KS_. */
#ifndef KERAS_SEQ_MICRO_H
#define KERAS_SEQ_MICRO_H

#include <limits.h>

#include "draw.h"
#include "tokens.h"

#if INT_MAX < 2147483647
#error "the decoder needs an int of 32 bits, as 32-bit processors have it"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define KS_MICRO_FORMAT 2u /* of the model's header */
#define KS_MICRO_NONE 0xFFFFFFFFu
#define KS_MICRO_NEVER INT32_MIN

typedef enum {
  KS_MICRO_OK,
  KS_MICRO_OTHER_FORMAT,  /* the header was written for another version of this decoder */
  KS_MICRO_DAMAGED,       /* the header was changed */
  KS_MICRO_TOO_SMALL,     /* `detail` is the number of bytes needed */
  KS_MICRO_NOT_UTF8,      /* `detail` is the first byte of the text that is not */
  KS_MICRO_UNKNOWN_TOKEN, /* `detail` is the first byte of a part that the vocabulary lacks */
  KS_MICRO_NO_TOKEN,      /* a token is outside the vocabulary, or none may be drawn */
  KS_MICRO_NOT_OF_TEXT,   /* the model reads frames; or it has no vocabulary */
  KS_MICRO_NOT_OF_FRAMES, /* the model reads tokens */
  KS_MICRO_BAD_ARGUMENT
} ks_micro_status;

/* Returns a sentence for the developer. */
const char *ks_micro_message(ks_micro_status status);

/* ---- the model: what its header defines ---- */

typedef enum {
  KS_MICRO_LOOKUP,   /* the token's row of a table, from column a, times a factor */
  KS_MICRO_PRODUCT,  /* weights by a, plus biases, shifted right with rounding */
  KS_MICRO_ADD,      /* a + b */
  KS_MICRO_SUBTRACT, /* a - b */
  KS_MICRO_MULTIPLY, /* a * b, shifted right with rounding */
  KS_MICRO_LIMIT,    /* the smaller of a and a factor, shifted left */
  KS_MICRO_LOGISTIC,
  KS_MICRO_TANH,
  KS_MICRO_COPY,
  KS_MICRO_NGRAM, /* the row of an n-gram in a table, times a factor; a: the tokens before, b: the n-gram's length */
  KS_MICRO_TOKEN  /* the id of the token */
} ks_micro_kind;

/* What the sources of an operator are: otherwise as many numbers in the memory as it has results. */
enum { KS_MICRO_A_CONSTANT = 1, KS_MICRO_B_CONSTANT = 2, KS_MICRO_A_SINGLE = 4, KS_MICRO_B_SINGLE = 8, KS_MICRO_RELU = 16 };

/* An operator on int16 numbers; its results are limited to their range. Offsets count elements. */
typedef struct {
  uint8_t kind, shift, flags;
  int16_t factor;
  uint32_t out, count;      /* the results in the memory */
  uint32_t a, b;            /* the sources in the memory, or in the constants */
  uint32_t size;            /* PRODUCT: numbers that it reads; LOOKUP, NGRAM: columns of the table */
  uint32_t weights, biases; /* the first; NGRAM: the largest token before, the rows, and the factor of each token */
} ks_micro_operator;

typedef struct {
  uint32_t start, count; /* in the memory */
  uint32_t first;        /* its values at the start of a text, in the constants; KS_MICRO_NONE: zeros */
} ks_micro_state;

typedef struct {
  uint32_t token;
  int32_t bias; /* is added to its logit in each draw; KS_MICRO_NEVER: it is never drawn */
} ks_micro_bias;

typedef struct {
  const char *texts;       /* UTF-8, one after the other; at the level KS_WHITE_SPACE each begins with a space */
  const uint32_t *starts;  /* of each text, and the end of the last */
  const uint16_t *ordered; /* the tokens that a text can have, ordered by their bytes */
  const ks_micro_bias *biases;
  uint32_t count; /* 0 if the model has no vocabulary */
  uint32_t ordered_count, bias_count;
  uint32_t texts_size;               /* bytes */
  uint32_t level;                    /* a ks_level */
  uint32_t pad, start, eos, unknown; /* the reserved tokens; `unknown` may be KS_MICRO_NONE */
} ks_micro_vocabulary;

typedef struct {
  uint32_t format;
  uint32_t sizes; /* a checksum of all numbers that are in no array; verified before an array is read */
  uint32_t checksum;
  const int8_t *weights;
  const int32_t *biases;
  const int16_t *constants;
  const uint16_t *sigmoid; /* 65536 times the sigmoid of i / 24, as LiteRT has it; 256 numbers, or none */
  const ks_micro_operator *operators;
  const ks_micro_state *states;
  uint32_t weight_count, bias_count, constant_count, sigmoid_count, operator_count, state_count;
  uint32_t memory, states_size; /* int16 numbers */
  uint32_t tokens;              /* that it can read; 0 if it reads frames */
  uint32_t frame, frame_count, output, output_count;
  uint64_t logit_step;
  ks_micro_vocabulary vocabulary;
} ks_micro_model;

/* ---- the decoder ---- */

typedef struct {
  const ks_micro_model *model;
  int16_t *memory;
  uint32_t token;   /* the last token of the text, which the model has not read yet */
  bool needs_space; /* at the level KS_WHITE_SPACE: before the next word */
  size_t detail;    /* see ks_micro_status */
} ks_micro_decoder;

/* Prepares a decoder at the start of a text; verifies the model. `memory` must stay. `bytes` must be at least the header's
 * ..._MEMORY. After an error, the functions that return a status refuse the decoder. */
ks_micro_status ks_micro_open(ks_micro_decoder *decoder, const ks_micro_model *model, int16_t *memory, size_t bytes);

/* Goes back to the start of a text, or of a series of frames. */
void ks_micro_restart(ks_micro_decoder *decoder);

/* ---- text ---- */

/* Starts a text with a prompt, which may be empty. After an error, the text has not changed. */
ks_micro_status ks_micro_prompt(ks_micro_decoder *decoder, const char *prompt, size_t size);

/* Continues the text. A text may be read in parts that end where a token ends. */
ks_micro_status ks_micro_read(ks_micro_decoder *decoder, const char *text, size_t size);

typedef struct {
  ks_micro_settings settings;
  uint64_t seed;
  uint32_t max_tokens;
} ks_micro_options;

typedef struct {
  const char *text; /* what the token adds; inside the model, without a zero at its end */
  size_t size;      /* 0 for <eos>, which ends a text */
  uint32_t token;
} ks_micro_piece;

/* Draws the next token of the text; `position` is 0 for the first after the prompt, and so on. */
ks_micro_status ks_micro_next(ks_micro_decoder *decoder, const ks_micro_settings *settings, uint64_t seed, uint32_t position,
                              ks_micro_piece *piece);

/* Gives a piece; returns whether to go on. */
typedef bool (*ks_micro_on_piece)(const ks_micro_piece *piece, void *user);

/* Writes a text token by token, to <eos> or `max_tokens` tokens. */
ks_micro_status ks_micro_write(ks_micro_decoder *decoder, const ks_micro_options *options, ks_micro_on_piece on_piece,
                               void *user);

/* ---- single steps ---- */

/* Reads a token, or a frame; ks_micro_output gives the logits, or the output, until the next step. */
ks_micro_status ks_micro_step(ks_micro_decoder *decoder, uint32_t token);
ks_micro_status ks_micro_step_frame(ks_micro_decoder *decoder, const int16_t *frame);
const int16_t *ks_micro_output(const ks_micro_decoder *decoder);

/* Draws a token from the logits of the last step, and makes it the last token of the text. The logits change: the biases of
 * the model are added, and tokens that are never drawn get KS_MICRO_FORBIDDEN. */
ks_micro_status ks_micro_choose(ks_micro_decoder *decoder, const ks_micro_settings *settings, uint64_t seed, uint32_t position,
                                uint32_t *token);

/* Copies the states, `model->states_size` numbers. */
void ks_micro_save(const ks_micro_decoder *decoder, int16_t *states);
void ks_micro_restore(ks_micro_decoder *decoder, const int16_t *states);

/* ---- suggestions ---- */

enum { KS_MICRO_SEARCH_STEPS = 64 }; /* those of other runtimes */

typedef struct {
  const char *insert; /* what is missing of the word at the end of the text; without a zero at its end */
  size_t size;
  uint64_t cost; /* see draw.h; 2^-(cost / 2^24) is the probability */
} ks_micro_suggestion;

/* Returns the bytes of workspace that a search for `count` words with at most `steps` steps needs. */
size_t ks_micro_suggest_bytes(const ks_micro_model *model, size_t count, size_t steps);

/* Gives up to `count` of the likeliest next words, or completions of the word begun at the end of a text, the likeliest first:
 * keras_seq/generation/suggest.py. The strings are inside the model or the workspace, which is aligned like a uint64_t.
 * `begun` is the size of the end of the text that is part of the words. Afterwards the text is the decoder's, up to the begun
 * word at the levels of words.
 *
 * At the level KS_CHARACTERS, fewer steps than KS_MICRO_SEARCH_STEPS need less memory and may miss words. */
ks_micro_status ks_micro_suggest(ks_micro_decoder *decoder, const char *text, size_t size, size_t count, size_t steps,
                                 void *workspace, size_t bytes, ks_micro_suggestion *suggestions, size_t *found, size_t *begun);

/* The same for a text that the decoder has read, up to the begun word at the levels of words. Its end suffices: the begun word,
 * and the character before. */
ks_micro_status ks_micro_suggest_next(ks_micro_decoder *decoder, const char *text, size_t size, size_t count, size_t steps,
                                      void *workspace, size_t bytes, ks_micro_suggestion *suggestions, size_t *found,
                                      size_t *begun);

#ifdef __cplusplus
}
#endif

#endif
