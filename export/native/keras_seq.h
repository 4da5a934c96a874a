/* keras_seq: writes, completes and scores text with a .tflite that `keras-seq export` made.
 *
 *     ks_model *model;
 *     ks_error error;
 *     if (ks_open("shakespeare.tflite", &model, &error)) { puts(error.text); return 1; }
 *     ks_write(model, "ROMEO:", NULL, show, NULL, NULL, &error);
 *     ks_close(model);
 *
 * Texts are UTF-8 and end with a zero byte, so a text that is given cannot contain U+0000.
 *
 * Errors. Every function that can fail returns a `ks_status`: KS_OK is 0. `error` receives one sentence that says what was
 * expected, what was received and what to do; it may be NULL. What a failed function would have returned through a pointer
 * is unchanged, except that `*model` of ks_open and ks_open_memory is NULL. The library prints nothing, never ends the process, and has no
 * global variables. (LiteRT itself writes a line or more to stderr when a model is opened.)
 *
 * Threads. Different models may be used at the same time. One model can run one call at a time of those that use the model:
 * ks_write, ks_suggest, ks_score, ks_learn, and those that save, load or forget what was learned. A second call, from another
 * thread or from the callback of ks_write, returns KS_IN_USE and changes nothing; so a text is written by one model from its
 * beginning to its end. All other functions may be called at any time between ks_open and ks_close. Close a model only when
 * no other thread will use it.
 *
 * Trust. The SHA-256 inside a file detects damage, not malice: LiteRT is native code, and a forged model can crash it.
 */
#ifndef KERAS_SEQ_H
#define KERAS_SEQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KS_VERSION "0.1.0" /* that of the Python package; the Makefile and CMakeLists.txt read this line */

#if defined(__GNUC__)
#define KS_API __attribute__((visibility("default")))
#else
#define KS_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ks_model ks_model;

typedef enum {
  KS_OK,
  KS_BAD_ARGUMENT,  /* an argument is NULL or out of its range */
  KS_BAD_TEXT,      /* a text is not UTF-8, or the vocabulary lacks a part of it */
  KS_BAD_FILE,      /* a file cannot be read or written, is damaged, or is a model that cannot be run, or cannot learn */
  KS_OUT_OF_MEMORY, /* in this library; LiteRT may end the process instead. The model stays usable */
  KS_IN_USE,        /* another call uses the model */
  KS_FAILED,        /* LiteRT failed, the model's logits are not finite, or learning diverged */
} ks_status;

typedef struct {
  char text[512]; /* one sentence in UTF-8 */
} ks_error;

/* The version of the library: KS_VERSION when it was compiled. */
KS_API const char *ks_version(void);

/* ---- a model ---- */

/* Opens a .tflite file. It is read into memory, so it may change or disappear afterwards. */
KS_API ks_status ks_open(const char *path, ks_model **model, ks_error *error);

/* Opens a .tflite that is in memory, such as an asset of an app. The bytes may be freed afterwards. */
KS_API ks_status ks_open_memory(const void *bytes, size_t size, ks_model **model, ks_error *error);

/* Closes a model and frees its memory. NULL is allowed. Returns KS_IN_USE, and closes nothing, while a call uses it. */
KS_API ks_status ks_close(ks_model *model);

/* ---- tokens ---- */

/* The number of tokens. Ids are below it. */
KS_API int32_t ks_vocabulary_size(const ks_model *model);

/* The id of the token that stands for unknown words; -1 if there is none, and unknown text is an error. */
KS_API int32_t ks_unknown_id(const ks_model *model);

/* The id of <eos>, which ends a text. */
KS_API int32_t ks_eos_id(const ks_model *model);

/* Gives the token ids of a text, without <s> and <eos>. Free them with ks_free. */
KS_API ks_status ks_encode(const ks_model *model, const char *text, int32_t **ids, size_t *count, ks_error *error);

/* Gives the text of token ids. The unknown token appears as itself; <pad>, <s> and <eos> add nothing. Free it with ks_free.
 * `size`, its bytes without the zero at the end, may be NULL; it tells where a text that contains U+0000 ends. */
KS_API ks_status ks_decode(const ks_model *model, const int32_t *ids, size_t count, char **text, size_t *size,
                           ks_error *error);

/* Frees what a function of this library gave. NULL is allowed. */
KS_API void ks_free(void *memory);

/* ---- writing ---- */

typedef struct {
  int32_t max_tokens;       /* the text ends after so many tokens; at least 1. Default: 200 */
  float temperature;        /* 0, which takes the most likely token, to 1e6 */
  int32_t top_k;            /* keeps the k most likely tokens; 0 is off */
  float top_p;              /* keeps the most likely tokens that have this probability; above 0, at most 1 (off) */
  float min_p;              /* keeps tokens with this share of the highest probability; 0 (off) to 1 */
  uint64_t seed;            /* the same seed gives the same text, here and in Python. Default: a random number */
  const char *const *stops; /* the text ends before the first of these strings, each of at least one byte */
  size_t stop_count;        /* Default: 0 */
} ks_options;

/* Gives the defaults: the sampling settings stored in the file, and a new random seed of 63 bits. */
KS_API ks_status ks_default_options(const ks_model *model, ks_options *options, ks_error *error);

typedef struct {
  const char *text;      /* what the token adds to the text, valid during the callback */
  size_t size;           /* its bytes, without the zero at the end */
  int32_t token;         /* the id */
  float log_probability; /* in nats, of the model's own softmax, before any filter */
} ks_piece;

/* Takes a piece; returns whether to go on. It must return: longjmp and C++ exceptions must not leave it. */
typedef bool (*ks_on_piece)(const ks_piece *piece, void *user);

typedef enum { KS_EOS, KS_STOP, KS_LENGTH, KS_STOPPED } ks_finish; /* <eos>, a stop string, max_tokens, the callback */

typedef struct {
  ks_finish finish;
  uint64_t seed;
  int32_t tokens;       /* that the model drew, <eos> included */
  double seconds;       /* after the prompt was read, callbacks included */
  double model_seconds; /* of these, in LiteRT */
} ks_result;

/* Continues a prompt, which may be "". Each token is given to `on_piece` as soon as it is certain that it does not belong to
 * a stop string; the piece in which a stop string begins is cut.
 * `options` may be NULL for the defaults, and `user` and `result` may be NULL. */
KS_API ks_status ks_write(ks_model *model, const char *prompt, const ks_options *options, ks_on_piece on_piece, void *user,
                          ks_result *result, ks_error *error);

/* ---- suggestions and scores ---- */

typedef struct {
  const char *text;   /* the whole word, to show on a button */
  const char *insert; /* what a tap appends to the text */
  double probability; /* given all that is typed */
} ks_suggestion;

/* Gives up to `count` (1 to 100) likeliest next words, or completions of the word that was begun at the end of `text`, the
 * likeliest first. The model keeps what it read last: a text that grows key by key costs a step or less for each key.
 * Free `suggestions`, all of them at once, with ks_free. */
KS_API ks_status ks_suggest(ks_model *model, const char *text, size_t count, ks_suggestion **suggestions, size_t *found,
                            ks_error *error);

/* Gives the log-probability of each token of `text`, in nats, given those before it. They are as many as the ids of
 * ks_encode. Free them with ks_free. */
KS_API ks_status ks_score(ks_model *model, const char *text, double **log_probabilities, size_t *count, ks_error *error);

/* ---- learning ---- */

/* A file that was exported with learn=True learns from texts, such as those that its user writes: ks_write, ks_suggest and
 * ks_score then follow them. What was learned is a few numbers beside the model, which stays as it is. */

typedef struct {
  float rate;   /* how far each text moves the model; positive. Default: that of the file */
  bool by_line; /* whether each line is a text of its own that ends with <eos>. Default: as the model was trained */
} ks_learn_options;

typedef struct {
  uint64_t tokens;             /* of the text */
  double nats_per_token;       /* before learning each block of up to 64 tokens */
  double model_nats_per_token; /* without anything learned */
  double weight;               /* of what was learned, after the text: from 0, not used at all, to 1 */
} ks_learn_report;

/* Returns whether the file can learn. Otherwise the functions below return KS_BAD_FILE. */
KS_API bool ks_has_learn(const ks_model *model);

/* Gives the defaults, which are stored in the file. */
KS_API ks_status ks_default_learn_options(const ks_model *model, ks_learn_options *options, ks_error *error);

/* Learns from a text, of at least one token. After an error the model is as it was before: KS_FAILED says that the rate was
 * too large for this text. `options` may be NULL for the defaults, and `report` may be NULL. */
KS_API ks_status ks_learn(ks_model *model, const char *text, const ks_learn_options *options, ks_learn_report *report,
                          ks_error *error);

/* The number of tokens from which the model has learned, those of a loaded file included. */
KS_API uint64_t ks_learned_tokens(const ks_model *model);

/* Forgets all that was learned. */
KS_API ks_status ks_forget(ks_model *model, ks_error *error);

/* Writes what was learned to a file, or replaces one: the file is complete, or as it was before. */
KS_API ks_status ks_save_learned(ks_model *model, const char *path, ks_error *error);

/* Loads what this model, opened from the same .tflite, has learned. It replaces what was learned since. */
KS_API ks_status ks_load_learned(ks_model *model, const char *path, ks_error *error);

/* The same with bytes in memory. Free those that are given with ks_free. */
KS_API ks_status ks_save_learned_memory(ks_model *model, void **bytes, size_t *size, ks_error *error);
KS_API ks_status ks_load_learned_memory(ks_model *model, const void *bytes, size_t size, ks_error *error);

#ifdef __cplusplus
}
#endif
#endif
