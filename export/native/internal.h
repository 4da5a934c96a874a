/* What the library's files share. Names begin with ks_, because a static library shares them with the app. */
#ifndef KERAS_SEQ_INTERNAL_H
#define KERAS_SEQ_INTERNAL_H

#include <stdatomic.h>

#include "keras_seq.h"
#include "micro/threefry.h"
#include "micro/tokens.h"
#include "micro/words.h"

/* Returns from a function of ks_status unless a call succeeds. */
#define TRY(call)                  \
  do {                             \
    ks_status try_status = (call); \
    if (try_status) return try_status; \
  } while (0)

/* ---- errors.c ---- */

#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
ks_status ks_fail(ks_error *error, ks_status status, const char *sentence, ...);
ks_status ks_no_memory(ks_error *error);

/* ---- random.c: the random stream, Threefry-2x32-20 ---- */

float ks_uniform(uint64_t seed, uint32_t position);
bool ks_random_seed(uint64_t *seed);

/* ---- sha256.c ---- */

enum { KS_SHA256_SIZE = 32 };
void ks_sha256(const uint8_t *data, size_t size, uint8_t sum[KS_SHA256_SIZE]);
void ks_hexadecimal(const uint8_t sum[KS_SHA256_SIZE], char text[2 * KS_SHA256_SIZE + 1]);

/* ---- json.c ---- */

/* A value inside a valid JSON text; `start` is NULL if there is none. */
typedef struct {
  const char *start, *end;
} ks_json;

/* Returns the object that a text holds; no value if it is not one JSON object in UTF-8. */
ks_json ks_json_object(const char *text, size_t size);
ks_json ks_json_member(ks_json object, const char *name);
bool ks_json_is_object(ks_json value);
bool ks_json_is_boolean(ks_json value);
bool ks_json_is_true(ks_json value);
/* Gives the next member of an object; `value` begins as no value. Returns false after the last. */
bool ks_json_next(ks_json object, ks_json *name, ks_json *value);
/* Gives a string with its escapes replaced; returns false if it is none, is longer, or has an escape for U+0000 or beyond ASCII,
 * which no string that the library looks for has. */
bool ks_json_string(ks_json value, char *text, size_t room);
bool ks_json_equals(ks_json value, const char *string);
bool ks_json_number(ks_json value, double *number);
/* Gives an integer; one beyond the range of int64_t is its end. */
bool ks_json_integer(ks_json value, int64_t *integer);

/* ---- files.c ---- */

typedef struct {
  uint8_t *data;
  size_t size;
} ks_bytes;

enum { KS_NAME_ROOM = 128 };
#define KS_LARGEST_FILE ((size_t)1 << 31) /* the offsets in a flatbuffer are smaller */

/* Gives what messages call a file: its path; of a long one, the end. They are UTF-8, which a path need not be. */
void ks_file_name(char name[KS_NAME_ROOM], const char *path);
/* Gives the content of a file, for the caller to free; `kind` is what messages say that it should be. */
ks_status ks_read_file(const char *path, const char *name, const char *kind, size_t largest, ks_bytes *content, ks_error *error);
/* Writes a file, or replaces one. Until all is on the disk it has a temporary name, which is removed after an error. */
ks_status ks_write_file(const char *path, const char *name, ks_bytes content, ks_error *error);

/* ---- bundle.c: the zip at the end of the file ---- */

typedef struct {
  size_t model_bytes; /* the file begins with the model */
  uint8_t model_sha256[KS_SHA256_SIZE];
  ks_bytes vocabulary;
  ks_options options;        /* the sampling settings of the file; the seed is not set */
  ks_learn_options learning; /* of a file that cannot learn, the rate is 0 */
} ks_bundle;

/* Returns the number in up to 4 bytes, the lowest first. */
uint32_t ks_little_endian(const uint8_t *data, int bytes);

/* Reads and verifies the bundle of a file; `name` is what messages call the file. The vocabulary is the caller's to free. */
ks_status ks_read_bundle(ks_bytes file, const char *name, ks_bundle *bundle, ks_error *error);

/* ---- vocabulary.c ---- */

typedef struct {
  const char *text;
  size_t size;
  int32_t id;
} ks_token;

typedef struct {
  ks_token *by_id, *by_text; /* all tokens, sorted by id; those that are not reserved, sorted by text */
  int32_t count, text_count;
  int32_t pad, start, eos, unknown; /* ids of the reserved tokens; -1 if there is none */
  ks_level level;
  char *content;
} ks_vocabulary;

/* Reads a vocabulary file and owns its bytes from now on, also after an error. Call ks_free_vocabulary in any case. */
ks_status ks_read_vocabulary(ks_bytes content, const char *name, ks_vocabulary *vocabulary, ks_error *error);
void ks_free_vocabulary(ks_vocabulary *vocabulary);
/* Returns whether a token adds no text. */
bool ks_is_silent(const ks_vocabulary *vocabulary, int32_t id);
/* Returns whether a text has only tokens of the vocabulary, or it has an unknown token. */
bool ks_can_read(const ks_vocabulary *vocabulary, const char *text, size_t size);
/* Gives the ids of a text after `first`, which is <s> or negative for none; `argument` is what messages call the text. */
ks_status ks_encode_text(const ks_vocabulary *vocabulary, const char *argument, const char *text, size_t size, int32_t first,
                         int32_t **ids, size_t *count, ks_error *error);

/* ---- own_words.c: the words that the user writes ---- */

enum { KS_MOST_OWN_WORDS = 2048, KS_MOST_OWN_PAIRS = 8192, KS_LONGEST_OWN_WORD = 64 /* characters */ };

typedef struct {
  size_t start, size; /* in `texts` */
  uint32_t count;
} ks_own_word;

typedef struct {
  uint16_t first, second; /* indices of words */
  uint32_t count;
} ks_own_pair;

/* Words and pairs of successive words, in the order of their first use. */
typedef struct {
  ks_own_word words[KS_MOST_OWN_WORDS];
  ks_own_pair pairs[KS_MOST_OWN_PAIRS];
  size_t word_count, pair_count;
  char *texts;
  size_t texts_size, texts_room;
} ks_own_words;

/* Returns a copy, or empty ones of NULL; NULL if there is no memory. */
ks_own_words *ks_copy_own_words(const ks_own_words *own);
void ks_free_own_words(ks_own_words *own);
/* Counts the words of a text; after an error, some of them. */
ks_status ks_count_own_words(ks_own_words *own, const char *text, size_t size, ks_error *error);
/* Gives the counts as text, for the caller to free. */
ks_status ks_write_own_words(const ks_own_words *own, char **text, size_t *size, ks_error *error);
/* Reads that text into empty ones; `name` is what messages call the file. */
ks_status ks_read_own_words(ks_own_words *own, const char *text, size_t size, const char *name, ks_error *error);
/* Returns the index of a word; KS_MOST_OWN_WORDS if there is none. */
size_t ks_own_word_at(const ks_own_words *own, const char *text, size_t size);
/* Returns the index of a pair; their number if there is none. */
size_t ks_own_pair_at(const ks_own_words *own, size_t first, size_t second);

/* ---- learned_file.c: what a model has learned ---- */

#define KS_LARGEST_RATE 1e6f
enum { KS_SHARES = 3 }; /* candidates for the weight of what was learned */

/* The model that a learned file belongs to. */
typedef struct {
  const uint8_t *sha256; /* of the model */
  size_t rows, columns;  /* of the weights */
} ks_learner;

typedef struct {
  uint64_t tokens;         /* from which was learned */
  float shares[KS_SHARES]; /* logarithms */
  const uint8_t *weights;  /* float32, rows * columns; unaligned, in a file that was read */
  const char *words;       /* the own words, UTF-8 */
  size_t words_size;
} ks_learned;

/* Gives the bytes of a learned file, for the caller to free. */
ks_status ks_make_learned(const ks_learner *learner, const ks_learned *learned, ks_bytes *file, ks_error *error);
/* Returns how many bytes a learned file may have. */
size_t ks_largest_learned(const ks_learner *learner);
/* Reads and verifies a learned file, of which `learned` is parts; `name` is what messages call it. */
ks_status ks_read_learned(const ks_learner *learner, ks_bytes file, const char *name, ks_learned *learned, ks_error *error);

/* ---- model.c: the model in LiteRT ---- */

enum {
  KS_MOST_TENSORS = 256, /* inputs or outputs of a signature */
  KS_LEARN_STEPS = 64    /* tokens that one call of `learn` takes */
};
typedef struct LiteRtObject *ks_object;

typedef struct {
  bool exists;
  const char *name;
  size_t index, input_count, output_count;
  ks_object inputs[KS_MOST_TENSORS], outputs[KS_MOST_TENSORS];
  void *input_states[KS_MOST_TENSORS], *output_states[KS_MOST_TENSORS]; /* where the values of the states are */
} ks_signature;

typedef struct {
  const char *name; /* what messages call the file */
  ks_object environment, model, options, compiled;
  size_t state_count, state_bytes[KS_MOST_TENSORS], states_size; /* states_size: bytes of all states */
  size_t prefill_steps, logit_count;
  uint8_t *first_states;
  ks_signature decode, prefill, sample, start;
  ks_signature learn, get_weights, set_weights, reset_weights; /* a file that learns has all of them, another none */
  struct {
    int32_t *token;
    float *logits;
  } decoded;
  struct {
    int32_t *tokens, *length;
    float *logits;
  } prefilled;
  struct {
    int32_t *token;
    float *uniform, *temperature, *top_p, *min_p;
    int32_t *top_k, *next_token;
    float *log_probability;
  } sampled;
  struct {
    int32_t *tokens, *next_tokens, *length;
    float *rate, *log_probabilities, *model_log_probabilities;
  } learned;
  struct {
    float *weights, *shares;
  } got, set;
  float *shares_after_set, *shares_after_reset; /* outputs that are not used */
  size_t weight_count;
} ks_runtime;

/* Loads a model, whose bytes must stay until ks_unload. Call ks_unload in any case. */
ks_status ks_load(ks_runtime *runtime, ks_bytes model, const char *name, ks_error *error);
void ks_unload(ks_runtime *runtime);
/* Runs a signature from the states `before` and copies the new ones to `after`, which may be the same; both are NULL for a
 * signature without states. */
ks_status ks_run(ks_runtime *runtime, ks_signature *signature, const uint8_t *before, uint8_t *after, ks_error *error);
/* Reads one token; the logits after it are in `decoded.logits`. */
ks_status ks_step(ks_runtime *runtime, int32_t token, const uint8_t *before, uint8_t *after, ks_error *error);
/* Returns whether the logits after a token are finite; `after` is overwritten. */
bool ks_has_finite_logits(ks_runtime *runtime, int32_t token, const uint8_t *before, uint8_t *after);

/* ---- model and text ---- */

/* The text that the model read last, so that a longer one is read from there. */
typedef struct {
  int32_t *tokens;
  size_t count, room;
  uint8_t *states; /* after these tokens */
  float *logits;   /* after the last token, if there is one */
} ks_read;

struct ks_model {
  char name[KS_NAME_ROOM]; /* what messages call the file */
  uint8_t *bytes;          /* of the file; LiteRT uses those of the model */
  uint8_t sha256[KS_SHA256_SIZE];
  ks_options options;
  ks_learn_options learning; /* of a model that cannot learn, the rate is 0 */
  _Atomic uint64_t learned_tokens;
  ks_own_words *own_words; /* NULL of a model that cannot learn */
  ks_vocabulary vocabulary;
  ks_runtime runtime;
  ks_read read;
  atomic_flag in_use;
};

/* ---- suggestions ---- */

enum { KS_MOST_SUGGESTIONS = 100 };

typedef struct {
  char *insert; /* for the caller to free */
  size_t insert_size;
  double probability;
} ks_answer;

/* mix.c: mixes the model's suggestions with the own words and keeps the likeliest, at most `wanted`. `begun` is the size of the
 * word at the end of the text that was begun, with the space before it at the level KS_WORDS; `answers` have room for
 * KS_MOST_SUGGESTIONS. */
ks_status ks_mix_own_words(const ks_model *model, const char *text, size_t size, size_t begun, size_t wanted,
                           ks_answer *answers, size_t *found, ks_error *error);

/* learned.c: returns KS_BAD_FILE if a model cannot learn. */
ks_status ks_require_learn(const ks_model *model, ks_error *error);
size_t ks_weights_size(const ks_model *model); /* in bytes */
/* Makes the weights known, in `runtime.got`. */
ks_status ks_get_weights(ks_model *model, ks_error *error);
ks_status ks_set_weights(ks_model *model, const void *weights, const float shares[KS_SHARES], ks_error *error);
/* Gives a model other own words, and gives those of before. */
void ks_replace_own_words(ks_model *model, ks_own_words **own_words);

/* open.c: reserves a model for a call; KS_IN_USE if another call has it. */
ks_status ks_begin(ks_model *model, ks_error *error);
void ks_end(ks_model *model);
/* read.c: makes `model->read` the state after `tokens`; reads only those that it has not read yet. */
ks_status ks_read_tokens(ks_model *model, const int32_t *tokens, size_t count, ks_error *error);

#endif
