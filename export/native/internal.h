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

void ks_sha256(const uint8_t *data, size_t size, char hexadecimal[65]);

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
/* Gives the next member of an object; `value` begins as no value. Returns false after the last. */
bool ks_json_next(ks_json object, ks_json *name, ks_json *value);
/* Gives a string with its escapes replaced; returns false if it is none, is longer, or has an escape for U+0000 or beyond ASCII,
 * which no string that the library looks for has. */
bool ks_json_string(ks_json value, char *text, size_t room);
bool ks_json_equals(ks_json value, const char *string);
bool ks_json_number(ks_json value, double *number);
/* Gives an integer; one beyond the range of int64_t is its end. */
bool ks_json_integer(ks_json value, int64_t *integer);

/* ---- bundle.c: the zip at the end of the file ---- */

typedef struct {
  uint8_t *data;
  size_t size;
} ks_bytes;

typedef struct {
  size_t model_bytes; /* the file begins with the model */
  ks_bytes vocabulary;
  ks_options options; /* the sampling settings of the file; the seed is not set */
} ks_bundle;

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
/* Gives the ids of a text after `first`, which is <s> or negative for none; `argument` is what messages call the text. */
ks_status ks_encode_text(const ks_vocabulary *vocabulary, const char *argument, const char *text, size_t size, int32_t first,
                         int32_t **ids, size_t *count, ks_error *error);

/* ---- model.c: the model in LiteRT ---- */

enum { KS_MOST_TENSORS = 256 }; /* inputs or outputs of a signature */
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
} ks_runtime;

/* Loads a model, whose bytes must stay until ks_unload. Call ks_unload in any case. */
ks_status ks_load(ks_runtime *runtime, ks_bytes model, const char *name, ks_error *error);
void ks_unload(ks_runtime *runtime);
/* Runs a signature from the states `before` and copies the new ones to `after`, which may be the same. */
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
  char name[128]; /* what messages call the file */
  uint8_t *bytes; /* of the file; LiteRT uses those of the model */
  ks_options options;
  ks_vocabulary vocabulary;
  ks_runtime runtime;
  ks_read read;
  atomic_flag in_use;
};

/* open.c: reserves a model for a call; KS_IN_USE if another call has it. */
ks_status ks_begin(ks_model *model, ks_error *error);
void ks_end(ks_model *model);
/* read.c: makes `model->read` the state after `tokens`; reads only those that it has not read yet. */
ks_status ks_read_tokens(ks_model *model, const int32_t *tokens, size_t count, ks_error *error);

#endif
