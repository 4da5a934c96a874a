/* Learning from texts: the model reads a text in blocks with the file's signature `learn`, which changes its weights. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* A text as token ids, and where its segments begin. The model reads each segment from <s> and its first states. */
typedef struct {
  int32_t *ids; /* of all segments, one after the other */
  size_t count;
  bool by_line; /* each segment ends with <eos>; otherwise there is one */
} Text;

/* What one call of `learn` reads. */
typedef struct {
  size_t first, length; /* of its tokens in `Text.ids` */
  bool is_beginning;    /* of a segment */
} Block;

enum { MOST_LAST = KS_LEARN_STEPS + 1 }; /* blocks that are kept, each of one token at least */

typedef struct {
  ks_model *model;
  float rate;
  Text text;
  uint8_t *states; /* after the block that was read */
  /* The last blocks, which have at least KS_LEARN_STEPS tokens together, are blocks[i % MOST_LAST] for i from `oldest` up to
   * `newest`; the states before each are at the same index. */
  Block blocks[MOST_LAST];
  uint8_t *states_before;
  size_t oldest, newest, last_tokens;
  float *weights, shares[KS_SHARES]; /* before the text */
  ks_own_words *own_words;           /* those of before and of the text */
} Lesson;

/* Log-probabilities of the model that learns, and of the model alone. */
typedef struct {
  double learned, alone;
} Sums;

/* Returns how much of what was learned counts, from 0 to 1. */
static double weight_of(const float shares[KS_SHARES]) {
  static const double candidates[KS_SHARES] = {0, 0.5, 1};
  double largest = -INFINITY, sum = 0, weighted = 0;
  for (int i = 0; i < KS_SHARES; i++) largest = shares[i] > largest ? shares[i] : largest;
  for (int i = 0; i < KS_SHARES; i++) {
    double share = exp(shares[i] - largest);
    sum += share;
    weighted += candidates[i] * share;
  }
  return weighted / sum;
}

/* ---- the text ---- */

/* Adds the ids of a line that has tokens, and <eos>. */
static ks_status add_line(const ks_vocabulary *vocabulary, const char *line, size_t size, Text *text, ks_error *error) {
  int32_t *ids;
  size_t count;
  TRY(ks_encode_text(vocabulary, "text", line, size, -1, &ids, &count, error));
  memcpy(text->ids + text->count, ids, count * sizeof *ids);
  free(ids);
  text->count += count;
  if (count) text->ids[text->count++] = vocabulary->eos;
  return KS_OK;
}

/* Adds the ids of each line; lines end in \n or \r\n. */
static ks_status add_lines(const ks_vocabulary *vocabulary, const char *text, Text *lines, ks_error *error) {
  for (const char *end; *text; text = end + (*end == '\n')) {
    end = text + strcspn(text, "\n");
    size_t size = (size_t)(end - text);
    TRY(add_line(vocabulary, text, size - (size && text[size - 1] == '\r'), lines, error));
  }
  return KS_OK;
}

/* Gives the ids of a text; they are to be freed, also after an error. */
static ks_status encode(const ks_vocabulary *vocabulary, const char *text, Text *encoded, ks_error *error) {
  size_t size = strlen(text), valid = ks_valid_size(text, size);
  if (!encoded->by_line) {
    TRY(ks_encode_text(vocabulary, "text", text, size, -1, &encoded->ids, &encoded->count, error));
  } else {
    if (valid != size) return ks_fail(error, KS_BAD_TEXT, "text must be UTF-8; byte %zu is not", valid);
    if (size >= SIZE_MAX / sizeof *encoded->ids) return ks_no_memory(error);
    encoded->ids = malloc((size + 1) * sizeof *encoded->ids); /* one for each byte at most, and for each line feed */
    if (!encoded->ids) return ks_no_memory(error);
    TRY(add_lines(vocabulary, text, encoded, error));
  }
  if (!encoded->count) return ks_fail(error, KS_BAD_TEXT, "text must be a text that is not empty");
  return KS_OK;
}

/* Gives the block that begins at a token: up to KS_LEARN_STEPS of its segment. */
static Block block_at(const Lesson *lesson, size_t first, bool is_beginning) {
  const Text *text = &lesson->text;
  size_t length = 0, most = text->count - first < KS_LEARN_STEPS ? text->count - first : KS_LEARN_STEPS;
  bool ends = false;
  while (length < most && !ends) ends = text->ids[first + length++] == lesson->model->vocabulary.eos; /* only of a line */
  return (Block){first, length, is_beginning};
}

/* ---- learning ---- */

/* Runs `learn` on a block. */
static ks_status run_block(Lesson *lesson, Block block, float rate, const uint8_t *before, ks_error *error) {
  ks_runtime *runtime = &lesson->model->runtime;
  const int32_t *ids = lesson->text.ids + block.first;
  int32_t *tokens = runtime->learned.tokens, *next = runtime->learned.next_tokens;
  memset(tokens, 0, KS_LEARN_STEPS * sizeof *tokens);
  memset(next, 0, KS_LEARN_STEPS * sizeof *next);
  *tokens = block.is_beginning ? lesson->model->vocabulary.start : ids[-1];
  memcpy(tokens + 1, ids, (block.length - 1) * sizeof *tokens);
  memcpy(next, ids, block.length * sizeof *next);
  *runtime->learned.length = (int32_t)block.length;
  *runtime->learned.rate = rate;
  return ks_run(runtime, &runtime->learn, before, lesson->states, error);
}

static ks_status refuse_rate(const Lesson *lesson, ks_error *error) {
  return ks_fail(error, KS_FAILED, "rate is too large: learning diverged, and what was learned before is kept. Received: %g",
                 (double)lesson->rate);
}

/* Learns from a block, and adds up its log-probabilities. */
static ks_status read_block(Lesson *lesson, Block block, float rate, const uint8_t *before, Sums *sums, ks_error *error) {
  const ks_runtime *runtime = &lesson->model->runtime;
  TRY(run_block(lesson, block, rate, before, error));
  for (size_t i = 0; i < block.length; i++) {
    double learned = runtime->learned.log_probabilities[i], alone = runtime->learned.model_log_probabilities[i];
    if (!isfinite(alone))
      return ks_fail(error, KS_BAD_FILE, "the model in %s, or what it has learned, is damaged: its logits are not finite",
                     lesson->model->name);
    if (!isfinite(learned)) return refuse_rate(lesson, error);
    sums->learned += learned;
    sums->alone += alone;
  }
  return KS_OK;
}

static uint8_t *states_before(const Lesson *lesson, size_t number) {
  return lesson->states_before + number % MOST_LAST * lesson->model->runtime.states_size;
}

/* Keeps a block and the states before it; drops those that are no longer among the last. */
static uint8_t *keep_block(Lesson *lesson, Block block) {
  uint8_t *before = states_before(lesson, lesson->newest);
  memcpy(before, lesson->states, lesson->model->runtime.states_size);
  lesson->blocks[lesson->newest++ % MOST_LAST] = block;
  lesson->last_tokens += block.length;
  const Block *oldest = &lesson->blocks[lesson->oldest % MOST_LAST];
  while (lesson->last_tokens - oldest->length >= KS_LEARN_STEPS) {
    lesson->last_tokens -= oldest->length;
    oldest = &lesson->blocks[++lesson->oldest % MOST_LAST];
  }
  return before;
}

/* Learns from all blocks. */
static ks_status learn_blocks(Lesson *lesson, Sums *sums, ks_error *error) {
  const ks_runtime *runtime = &lesson->model->runtime;
  bool is_beginning = true;
  for (size_t first = 0; first < lesson->text.count;) {
    Block block = block_at(lesson, first, is_beginning);
    if (is_beginning) memcpy(lesson->states, runtime->first_states, runtime->states_size);
    TRY(read_block(lesson, block, lesson->rate, keep_block(lesson, block), sums, error));
    first += block.length;
    is_beginning = lesson->text.ids[first - 1] == lesson->model->vocabulary.eos;
  }
  return KS_OK;
}

/* Gives the mean log-probabilities in the last blocks, when some weights count as a whole. */
static ks_status fit(Lesson *lesson, const float *weights, Sums *means, ks_error *error) {
  static const float whole[KS_SHARES] = {-100, -100, 0};
  *means = (Sums){0, 0};
  for (size_t i = lesson->oldest; i < lesson->newest; i++) {
    TRY(ks_set_weights(lesson->model, weights, whole, error)); /* even a rate of 0 changes them */
    TRY(read_block(lesson, lesson->blocks[i % MOST_LAST], 0, states_before(lesson, i), means, error));
  }
  means->learned /= (double)lesson->last_tokens;
  means->alone /= (double)lesson->last_tokens;
  return KS_OK;
}

/* Requires what was learned to fit the last blocks. A rate that is too large leaves weights that fit nothing; these then have
 * a small share, so that the text looks no worse than without them. */
static ks_status require_improvement(Lesson *lesson, ks_error *error) {
  static const double MOST_WORSE = 1; /* nats per token */
  const ks_runtime *runtime = &lesson->model->runtime;
  Sums now, before;
  TRY(fit(lesson, runtime->got.weights, &now, error));
  TRY(fit(lesson, lesson->weights, &before, error));
  double without = now.alone < before.learned ? now.alone : before.learned;
  return without - now.learned <= MOST_WORSE ? KS_OK : refuse_rate(lesson, error);
}

/* Learns from a text, or changes nothing. */
static ks_status learn(Lesson *lesson, Sums *sums, ks_error *error) {
  ks_model *model = lesson->model;
  const ks_runtime *runtime = &model->runtime;
  TRY(ks_get_weights(model, error));
  memcpy(lesson->weights, runtime->got.weights, ks_weights_size(model));
  memcpy(lesson->shares, runtime->got.shares, sizeof lesson->shares);
  model->read.count = 0;
  ks_status status = learn_blocks(lesson, sums, error);
  if (!status) status = ks_get_weights(model, error);
  if (!status) status = require_improvement(lesson, error);
  if (!status) status = ks_set_weights(model, runtime->got.weights, runtime->got.shares, error);
  if (status) ks_set_weights(model, lesson->weights, lesson->shares, NULL);
  return status;
}

static ks_status learn_text(Lesson *lesson, const char *text, ks_learn_report *report, ks_error *error) {
  ks_model *model = lesson->model;
  Sums sums = {0, 0};
  TRY(encode(&model->vocabulary, text, &lesson->text, error));
  lesson->states = malloc(model->runtime.states_size);
  lesson->states_before = calloc(MOST_LAST, model->runtime.states_size);
  lesson->weights = malloc(ks_weights_size(model));
  lesson->own_words = ks_copy_own_words(model->own_words);
  if (!lesson->states || !lesson->states_before || !lesson->weights || !lesson->own_words) return ks_no_memory(error);
  TRY(ks_count_own_words(lesson->own_words, text, strlen(text), error));
  TRY(learn(lesson, &sums, error));
  ks_replace_own_words(model, &lesson->own_words);
  atomic_fetch_add(&model->learned_tokens, lesson->text.count);
  double count = (double)lesson->text.count;
  if (report)
    *report = (ks_learn_report){.tokens = lesson->text.count,
                                .nats_per_token = -sums.learned / count,
                                .model_nats_per_token = -sums.alone / count,
                                .weight = weight_of(model->runtime.got.shares)};
  return KS_OK;
}

/* ---- the functions of the library ---- */

ks_status ks_default_learn_options(const ks_model *model, ks_learn_options *options, ks_error *error) {
  if (!model || !options) return ks_fail(error, KS_BAD_ARGUMENT, "model and options must not be NULL");
  TRY(ks_require_learn(model, error));
  *options = model->learning;
  return KS_OK;
}

ks_status ks_learn(ks_model *model, const char *text, const ks_learn_options *options, ks_learn_report *report, ks_error *error) {
  if (!model || !text) return ks_fail(error, KS_BAD_ARGUMENT, "model and text must not be NULL");
  TRY(ks_require_learn(model, error));
  if (!options) options = &model->learning;
  if (!(options->rate > 0 && options->rate <= KS_LARGEST_RATE))
    return ks_fail(error, KS_BAD_ARGUMENT, "rate must be a positive number, at most 1,000,000. Received: %g", (double)options->rate);
  TRY(ks_begin(model, error));
  Lesson lesson = {.model = model, .rate = options->rate, .text = {.by_line = options->by_line}};
  ks_status status = learn_text(&lesson, text, report, error);
  free(lesson.text.ids);
  free(lesson.states);
  free(lesson.states_before);
  free(lesson.weights);
  ks_free_own_words(lesson.own_words);
  ks_end(model);
  return status;
}
