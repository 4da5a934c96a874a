/* Reading and writing text. */
#include "keras_seq_micro.h"
#include "text.h"
#include "threefry.h"

ks_text ks_micro_text_of(const ks_micro_vocabulary *vocabulary, uint32_t token) {
  uint32_t space = vocabulary->level == KS_WHITE_SPACE, start = vocabulary->starts[token] + space;
  return (ks_text){vocabulary->texts + start, vocabulary->starts[token + 1] - start};
}

static bool is_silent(const ks_micro_vocabulary *vocabulary, uint32_t token) {
  return token == vocabulary->pad || token == vocabulary->start || token == vocabulary->eos;
}

static int order_of(const ks_micro_vocabulary *vocabulary, uint32_t token, const char *text, size_t size) {
  ks_text other = ks_micro_text_of(vocabulary, token);
  return ks_order(other.text, other.size, text, size);
}

/* Returns the token of a part of a text; the unknown token if the vocabulary lacks it; or KS_MICRO_NONE. */
static uint32_t find(const ks_micro_vocabulary *vocabulary, const char *text, size_t size) {
  uint32_t low = 0, high = vocabulary->ordered_count;
  while (low < high) {
    uint32_t middle = low + (high - low) / 2;
    int order = order_of(vocabulary, vocabulary->ordered[middle], text, size);
    if (!order) return vocabulary->ordered[middle];
    if (order < 0) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  /* Split at white space, a text can have a word that is spelled like a reserved token. It is not that token. */
  const uint32_t silent[] = {vocabulary->pad, vocabulary->start, vocabulary->eos};
  for (size_t i = 0; vocabulary->level == KS_WHITE_SPACE && i < sizeof silent / sizeof *silent; i++)
    if (!order_of(vocabulary, silent[i], text, size)) return KS_MICRO_NONE;
  return vocabulary->unknown;
}

/* Reads the tokens of a text, or only looks whether the vocabulary has them. */
static ks_micro_status read_tokens(ks_micro_decoder *decoder, const char *text, size_t size, bool is_check) {
  const ks_micro_vocabulary *vocabulary = &decoder->model->vocabulary;
  for (size_t at = 0; at < size;) {
    size_t length = ks_token_size((ks_level)vocabulary->level, text + at, text + size);
    decoder->detail = at;
    at += length ? length : 1; /* white space between two words */
    if (!length) continue;
    uint32_t token = find(vocabulary, text + at - length, length);
    if (token == KS_MICRO_NONE) return KS_MICRO_UNKNOWN_TOKEN;
    if (is_check) continue;
    ks_micro_status status = ks_micro_step(decoder, decoder->token);
    if (status) return status;
    decoder->token = token;
  }
  return KS_MICRO_OK;
}

ks_micro_status ks_micro_check_text(ks_micro_decoder *decoder, const char *text, size_t size) {
  if (!decoder || !decoder->model || (!text && size)) return KS_MICRO_BAD_ARGUMENT;
  if (!decoder->model->vocabulary.count) return KS_MICRO_NOT_OF_TEXT;
  decoder->detail = size ? ks_valid_size(text, size) : 0;
  return decoder->detail < size ? KS_MICRO_NOT_UTF8 : KS_MICRO_OK;
}

static ks_micro_status read_text(ks_micro_decoder *decoder, const char *text, size_t size, bool is_start) {
  ks_micro_status status = ks_micro_check_text(decoder, text, size);
  if (!status) status = read_tokens(decoder, text, size, true);
  if (status) return status;
  if (is_start) ks_micro_restart(decoder);
  if (size) decoder->needs_space = !ks_is_white(text[size - 1]);
  return read_tokens(decoder, text, size, false);
}

ks_micro_status ks_micro_prompt(ks_micro_decoder *decoder, const char *prompt, size_t size) {
  return read_text(decoder, prompt, size, true);
}

ks_micro_status ks_micro_read(ks_micro_decoder *decoder, const char *text, size_t size) {
  return read_text(decoder, text, size, false);
}

/* ---- writing ---- */

static int16_t biased(int16_t logit, int32_t bias) {
  if (logit == KS_MICRO_FORBIDDEN || bias == KS_MICRO_NEVER) return KS_MICRO_FORBIDDEN;
  int32_t sum = logit + bias;
  return (int16_t)(sum > 32767 ? 32767 : sum < -32767 ? -32767 : sum);
}

ks_micro_status ks_micro_choose(ks_micro_decoder *decoder, const ks_micro_settings *settings, uint64_t seed, uint32_t position,
                                uint32_t *token) {
  if (!decoder || !decoder->model || !settings || !token) return KS_MICRO_BAD_ARGUMENT;
  const ks_micro_model *model = decoder->model;
  if (!model->tokens) return KS_MICRO_NOT_OF_TEXT;
  int16_t *logits = decoder->memory + model->output;
  for (uint32_t i = 0; i < model->vocabulary.bias_count; i++) {
    const ks_micro_bias *given = &model->vocabulary.biases[i];
    logits[given->token] = biased(logits[given->token], given->bias);
  }
  uint32_t drawn = ks_micro_draw(logits, model->output_count, settings, model->logit_step, ks_threefry(seed, position) >> 8);
  if (drawn >= model->output_count) return KS_MICRO_NO_TOKEN;
  decoder->token = *token = drawn;
  return KS_MICRO_OK;
}

ks_micro_status ks_micro_next(ks_micro_decoder *decoder, const ks_micro_settings *settings, uint64_t seed, uint32_t position,
                              ks_micro_piece *piece) {
  if (!decoder || !decoder->model || !settings || !piece) return KS_MICRO_BAD_ARGUMENT;
  const ks_micro_vocabulary *vocabulary = &decoder->model->vocabulary;
  if (!vocabulary->count) return KS_MICRO_NOT_OF_TEXT;
  ks_micro_status status = ks_micro_step(decoder, decoder->token);
  if (!status) status = ks_micro_choose(decoder, settings, seed, position, &piece->token);
  if (status) return status;
  ks_text shown = ks_micro_text_of(vocabulary, piece->token);
  if (is_silent(vocabulary, piece->token)) shown.size = 0;
  bool has_space = shown.size && decoder->needs_space && vocabulary->level == KS_WHITE_SPACE;
  piece->text = shown.text - has_space; /* the space is before each word */
  piece->size = shown.size + has_space;
  if (shown.size) decoder->needs_space = true;
  return KS_MICRO_OK;
}

ks_micro_status ks_micro_write(ks_micro_decoder *decoder, const ks_micro_options *options, ks_micro_on_piece on_piece,
                               void *user) {
  if (!decoder || !options || !on_piece) return KS_MICRO_BAD_ARGUMENT;
  ks_micro_piece piece;
  for (uint32_t position = 0; position < options->max_tokens; position++) {
    ks_micro_status status = ks_micro_next(decoder, &options->settings, options->seed, position, &piece);
    if (status) return status;
    if (piece.token == decoder->model->vocabulary.eos || !on_piece(&piece, user)) break;
  }
  return KS_MICRO_OK;
}
