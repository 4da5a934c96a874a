/* Writing a text: tokens are drawn, their text is searched for stop strings, and the pieces are given to the callback. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

/* A token that may belong to a stop string, and its text in `Writer.held`. */
typedef struct {
  ks_piece piece;
  size_t start;
} Held;

typedef struct {
  ks_model *model;
  const ks_options *options;
  ks_on_piece on_piece;
  void *user;
  char *held; /* the text of the pieces that were drawn and not yet given */
  size_t held_size, held_room;
  Held *pieces;
  size_t piece_count, piece_room;
  bool needs_space; /* a word that follows needs a space before it */
  ks_result result;
  int32_t token;   /* the last token drawn, which the model reads next */
  uint8_t *states; /* before it reads that token */
} Writer;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* ---- pieces and stop strings, as in keras_seq/generation/stop_strings.py ---- */

/* Gives the first pieces, up to the first `size` bytes of the held text. Returns whether to go on. */
static bool give(Writer *writer, size_t count, size_t size) {
  for (size_t i = 0; i < count; i++) {
    ks_piece piece = writer->pieces[i].piece;
    size_t start = writer->pieces[i].start;
    if (piece.size > size - start) piece.size = size - start;
    char *text = writer->held + start, *end = text + piece.size, after = *end;
    *end = 0;
    piece.text = text;
    bool goes_on = writer->on_piece(&piece, writer->user);
    *end = after;
    if (!goes_on) return false;
  }
  return true;
}

/* Removes the first pieces, which were given. */
static void drop(Writer *writer, size_t count) {
  size_t size = count < writer->piece_count ? writer->pieces[count].start : writer->held_size;
  memmove(writer->held, writer->held + size, writer->held_size - size);
  memmove(writer->pieces, writer->pieces + count, (writer->piece_count - count) * sizeof *writer->pieces);
  writer->held_size -= size;
  writer->piece_count -= count;
  for (size_t i = 0; i < writer->piece_count; i++) writer->pieces[i].start -= size;
}

/* Returns where a string begins in a text, or `size`. */
static size_t position_of(const char *text, size_t size, const char *string, size_t length) {
  for (size_t at = 0; at + length <= size; at++)
    if (!memcmp(text + at, string, length)) return at;
  return size;
}

/* Returns where the first stop string begins in the held text; its size if there is none. */
static size_t find_stop(const Writer *writer) {
  size_t first = writer->held_size;
  for (size_t i = 0; i < writer->options->stop_count; i++) {
    size_t at = position_of(writer->held, writer->held_size, writer->options->stops[i], strlen(writer->options->stops[i]));
    if (at < first) first = at;
  }
  return first;
}

/* Returns the number of bytes at the end of the held text that may be the beginning of a stop string. */
static size_t unfinished_stop(const Writer *writer) {
  size_t most = 0;
  for (size_t i = 0; i < writer->options->stop_count; i++) {
    const char *stop = writer->options->stops[i];
    size_t length = strlen(stop) - 1;
    if (length > writer->held_size) length = writer->held_size;
    while (length > most && memcmp(writer->held + writer->held_size - length, stop, length)) length--;
    if (length > most) most = length;
  }
  return most;
}

/* Gives the pieces that cannot belong to a stop string. Returns whether to go on. */
static bool give_safe(Writer *writer) {
  size_t safe = writer->held_size - unfinished_stop(writer), count = 0, size = 0;
  while (count < writer->piece_count && size + writer->pieces[count].piece.size <= safe) size += writer->pieces[count++].piece.size;
  bool goes_on = give(writer, count, size);
  drop(writer, count);
  return goes_on;
}

/* Gives what stands before a stop string; the piece in which it begins is cut. Returns whether to go on. */
static bool give_until(Writer *writer, size_t stop) {
  size_t count = 0;
  while (count < writer->piece_count && writer->pieces[count].start < stop) count++;
  return give(writer, count, stop);
}

static ks_status make_room(Writer *writer, size_t size, ks_error *error) {
  if (writer->held_size + size + 1 > writer->held_room) {
    size_t room = 2 * (writer->held_size + size + 1);
    char *held = realloc(writer->held, room);
    if (!held) return ks_no_memory(error);
    writer->held = held;
    writer->held_room = room;
  }
  if (writer->piece_count == writer->piece_room) {
    size_t room = 2 * writer->piece_room + 8;
    Held *pieces = realloc(writer->pieces, room * sizeof *pieces);
    if (!pieces) return ks_no_memory(error);
    writer->pieces = pieces;
    writer->piece_room = room;
  }
  return KS_OK;
}

/* Adds the text of a token to the held text. */
static ks_status hold(Writer *writer, int32_t token, float log_probability, ks_error *error) {
  const ks_vocabulary *vocabulary = &writer->model->vocabulary;
  ks_token shown = vocabulary->by_id[token];
  if (ks_is_silent(vocabulary, token)) shown.size = 0;
  bool has_space = shown.size && vocabulary->level == KS_WHITE_SPACE && writer->needs_space;
  TRY(make_room(writer, shown.size + 1, error));
  size_t start = writer->held_size;
  if (has_space) writer->held[writer->held_size++] = ' ';
  memcpy(writer->held + writer->held_size, shown.text, shown.size);
  writer->held_size += shown.size;
  if (shown.size) writer->needs_space = true;
  ks_piece piece = {NULL, writer->held_size - start, token, log_probability};
  writer->pieces[writer->piece_count++] = (Held){piece, start};
  return KS_OK;
}

/* Takes a token that was drawn; `ended` tells whether the text ends with it, for the reason in the result. */
static ks_status take(Writer *writer, int32_t token, float log_probability, bool *ended, ks_error *error) {
  const ks_vocabulary *vocabulary = &writer->model->vocabulary;
  if (token < 0 || token >= vocabulary->count)
    return ks_fail(error, KS_BAD_FILE, "%s returns token %" PRId32 " of %" PRId32, writer->model->name, token, vocabulary->count);
  writer->token = token;
  writer->result.tokens++;
  *ended = true;
  if (token == vocabulary->eos) {
    writer->result.finish = KS_EOS;
  } else {
    TRY(hold(writer, token, log_probability, error));
    size_t stop = find_stop(writer);
    if (stop < writer->held_size) {
      writer->result.finish = give_until(writer, stop) ? KS_STOP : KS_STOPPED;
      return KS_OK;
    }
    if (!give_safe(writer)) {
      writer->result.finish = KS_STOPPED;
      return KS_OK;
    }
    *ended = writer->result.tokens == writer->options->max_tokens;
    writer->result.finish = KS_LENGTH;
  }
  if (*ended && !give(writer, writer->piece_count, writer->held_size)) writer->result.finish = KS_STOPPED;
  return KS_OK;
}

/* ---- drawing ---- */

static void set_options(ks_runtime *runtime, const ks_options *options, int32_t vocabulary_size) {
  *runtime->sampled.temperature = options->temperature;
  *runtime->sampled.top_k = options->top_k < vocabulary_size ? options->top_k : vocabulary_size;
  *runtime->sampled.top_p = options->top_p;
  *runtime->sampled.min_p = options->min_p;
}

static ks_status refuse_logits(const Writer *writer, ks_error *error) {
  return ks_fail(error, KS_FAILED, "token %" PRId32 " cannot be sampled: the model's logits are not finite", writer->result.tokens);
}

/* Draws one token. The file's signature `write` would draw 32 in one call, but a call costs less here than a turn of its loop. */
static ks_status draw(Writer *writer, bool *ended, ks_error *error) {
  ks_runtime *runtime = &writer->model->runtime;
  *runtime->sampled.token = writer->token;
  *runtime->sampled.uniform = ks_uniform(writer->options->seed, (uint32_t)writer->result.tokens);
  double before = seconds();
  ks_status status = ks_run(runtime, &runtime->sample, writer->states, writer->states, error);
  writer->result.model_seconds += seconds() - before;
  if (status) /* LiteRT may fail because of the logits; `decode` tells */
    return ks_has_finite_logits(runtime, writer->token, writer->states, writer->states) ? status : refuse_logits(writer, error);
  if (!isfinite(*runtime->sampled.log_probability)) return refuse_logits(writer, error);
  return take(writer, *runtime->sampled.next_token, *runtime->sampled.log_probability, ended, error);
}

/* ---- the text ---- */

/* Reads a prompt but its last token; that one is the first that the loop gives to the model. */
static ks_status read_prompt(Writer *writer, const char *prompt, ks_error *error) {
  ks_model *model = writer->model;
  int32_t *tokens;
  size_t count, size = strlen(prompt);
  TRY(ks_encode_text(&model->vocabulary, "prompt", prompt, size, model->vocabulary.start, &tokens, &count, error));
  ks_status status = ks_read_tokens(model, tokens, count - 1, error);
  writer->token = tokens[count - 1];
  free(tokens);
  if (status) return status;
  if (!(writer->states = malloc(model->runtime.states_size))) return ks_no_memory(error);
  memcpy(writer->states, model->read.states, model->runtime.states_size);
  writer->needs_space = size && !ks_is_white(prompt[size - 1]);
  return KS_OK;
}

static ks_status write_text(Writer *writer, const char *prompt, ks_error *error) {
  ks_runtime *runtime = &writer->model->runtime;
  TRY(read_prompt(writer, prompt, error));
  set_options(runtime, writer->options, writer->model->vocabulary.count);
  writer->result = (ks_result){.seed = writer->options->seed};
  double start = seconds();
  bool ended = false;
  while (!ended) TRY(draw(writer, &ended, error));
  writer->result.seconds = seconds() - start;
  return KS_OK;
}

static ks_status check_options(const ks_options *options, ks_error *error) {
  const char *sentence = "%s must be a number from %s to %s. Received: %g";
  if (options->max_tokens < 1)
    return ks_fail(error, KS_BAD_ARGUMENT, "max_tokens must be at least 1. Received: %" PRId32, options->max_tokens);
  if (!(options->temperature >= 0 && options->temperature <= 1e6f))
    return ks_fail(error, KS_BAD_ARGUMENT, sentence, "temperature", "0", "1e6", (double)options->temperature);
  if (options->top_k < 0) return ks_fail(error, KS_BAD_ARGUMENT, "top_k must be at least 0. Received: %" PRId32, options->top_k);
  if (!(options->top_p > 0 && options->top_p <= 1))
    return ks_fail(error, KS_BAD_ARGUMENT, sentence, "top_p", "above 0", "1", (double)options->top_p);
  if (!(options->min_p >= 0 && options->min_p <= 1))
    return ks_fail(error, KS_BAD_ARGUMENT, sentence, "min_p", "0", "1", (double)options->min_p);
  if (options->stop_count && !options->stops) return ks_fail(error, KS_BAD_ARGUMENT, "stops must not be NULL");
  for (size_t i = 0; i < options->stop_count; i++) {
    const char *stop = options->stops[i];
    if (!stop || !*stop || ks_valid_size(stop, strlen(stop)) != strlen(stop))
      return ks_fail(error, KS_BAD_ARGUMENT, "stop must be UTF-8 of at least one character; number %zu is not", i + 1);
  }
  return KS_OK;
}

ks_status ks_write(ks_model *model, const char *prompt, const ks_options *options, ks_on_piece on_piece, void *user,
                   ks_result *result, ks_error *error) {
  ks_options defaults;
  if (!model || !prompt || !on_piece) return ks_fail(error, KS_BAD_ARGUMENT, "model, prompt and on_piece must not be NULL");
  if (!options) {
    TRY(ks_default_options(model, &defaults, error));
    options = &defaults;
  }
  TRY(check_options(options, error));
  TRY(ks_begin(model, error));
  Writer writer = {.model = model, .options = options, .on_piece = on_piece, .user = user};
  ks_status status = write_text(&writer, prompt, error);
  if (!status && result) *result = writer.result;
  free(writer.held);
  free(writer.pieces);
  free(writer.states);
  ks_end(model);
  return status;
}
