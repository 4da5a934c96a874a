/* Opening a model, and its steps. */
#include "memcpy.h"
#include "operators.h"

const char *ks_micro_message(ks_micro_status status) {
  static const char *const sentences[] = {
      "ok",
      "the model's header is of another version: export it again, or use the decoder of the same release",
      "the model's header is damaged: export it again",
      "the memory is too small: see `detail` for the bytes needed",
      "the text must be UTF-8: see `detail` for the first byte that is not",
      "the text must hold only tokens of the vocabulary: see `detail` for the first byte of another",
      "a token is outside the vocabulary, or no token may be drawn",
      "the model is not one of text",
      "the model reads tokens, not frames",
      "an argument is out of range, or NULL",
  };
  return (size_t)status < sizeof sentences / sizeof *sentences ? sentences[status] : "unknown status";
}

/* ---- the checksum: FNV-1a over all numbers, the low byte first ---- */

static uint32_t hash_number(uint32_t hash, uint64_t number, size_t bytes) {
  for (; bytes; bytes--, number >>= 8) hash = (hash ^ (uint8_t)number) * 16777619u;
  return hash;
}

static uint32_t hash_8(uint32_t hash, const void *from, size_t count) {
  const uint8_t *bytes = from;
  for (size_t i = 0; i < count; i++) hash = (hash ^ bytes[i]) * 16777619u;
  return hash;
}

static uint32_t hash_16(uint32_t hash, const uint16_t *numbers, size_t count) {
  for (size_t i = 0; i < count; i++) hash = hash_number(hash, numbers[i], 2);
  return hash;
}

static uint32_t hash_32(uint32_t hash, const uint32_t *numbers, size_t count) {
  for (size_t i = 0; i < count; i++) hash = hash_number(hash, numbers[i], 4);
  return hash;
}

static uint32_t hash_operators(uint32_t hash, const ks_micro_model *model) {
  for (uint32_t i = 0; i < model->operator_count; i++) {
    const ks_micro_operator *one = &model->operators[i];
    const uint32_t numbers[] = {one->kind, one->shift, one->flags, (uint16_t)one->factor, one->out, one->count,
                                one->a,    one->b,     one->size,  one->weights,          one->biases};
    hash = hash_32(hash, numbers, sizeof numbers / sizeof *numbers);
  }
  for (uint32_t i = 0; i < model->state_count; i++) {
    const uint32_t numbers[] = {model->states[i].start, model->states[i].count, model->states[i].first};
    hash = hash_32(hash, numbers, 3);
  }
  return hash;
}

static uint32_t hash_vocabulary(uint32_t hash, const ks_micro_vocabulary *vocabulary) {
  if (!vocabulary->count) return hash;
  hash = hash_32(hash, vocabulary->starts, vocabulary->count + 1);
  hash = hash_8(hash, vocabulary->texts, vocabulary->texts_size);
  hash = hash_16(hash, vocabulary->ordered, vocabulary->ordered_count);
  for (uint32_t i = 0; i < vocabulary->bias_count; i++) {
    const uint32_t bias[] = {vocabulary->biases[i].token, (uint32_t)vocabulary->biases[i].bias};
    hash = hash_32(hash, bias, 2);
  }
  return hash;
}

/* Returns the checksum of the numbers that are in no array: the counts of the arrays are among them. */
static uint32_t sizes_of(const ks_micro_model *model) {
  const ks_micro_vocabulary *words = &model->vocabulary;
  const uint32_t numbers[] = {
      model->format,         model->weight_count, model->bias_count, model->constant_count, model->sigmoid_count,
      model->operator_count, model->state_count,  model->memory,     model->states_size,    model->tokens,
      model->frame,          model->frame_count,  model->output,     model->output_count};
  uint32_t hash = hash_32(2166136261u, numbers, sizeof numbers / sizeof *numbers);
  hash = hash_number(hash, model->logit_step, 8);
  const uint32_t more[] = {words->count, words->ordered_count, words->bias_count, words->texts_size, words->level,
                           words->pad,   words->start,         words->eos,        words->unknown};
  return hash_32(hash, more, sizeof more / sizeof *more);
}

/* Goes on with the arrays; their counts must be those of the header. */
static uint32_t checksum_of(const ks_micro_model *model, uint32_t hash) {
  hash = hash_operators(hash, model);
  hash = hash_8(hash, model->weights, model->weight_count);
  for (uint32_t i = 0; i < model->bias_count; i++) hash = hash_number(hash, (uint32_t)model->biases[i], 4);
  for (uint32_t i = 0; i < model->constant_count; i++) hash = hash_number(hash, (uint16_t)model->constants[i], 2);
  hash = hash_16(hash, model->sigmoid, model->sigmoid_count);
  return hash_vocabulary(hash, &model->vocabulary);
}

/* ---- the decoder ---- */

ks_micro_status ks_micro_open(ks_micro_decoder *decoder, const ks_micro_model *model, int16_t *memory, size_t bytes) {
  if (!decoder || !model || !memory) return KS_MICRO_BAD_ARGUMENT;
  decoder->model = NULL; /* an initializer would be a call of memset */
  decoder->memory = NULL;
  decoder->detail = 0;
  if (model->format != KS_MICRO_FORMAT) return KS_MICRO_OTHER_FORMAT;
  uint32_t sizes = sizes_of(model);
  if (sizes != model->sizes || checksum_of(model, sizes) != model->checksum) return KS_MICRO_DAMAGED;
  decoder->detail = sizeof *memory * (size_t)model->memory;
  if (bytes < decoder->detail) return KS_MICRO_TOO_SMALL;
  decoder->model = model;
  decoder->memory = memory;
  ks_micro_restart(decoder);
  return KS_MICRO_OK;
}

void ks_micro_restart(ks_micro_decoder *decoder) {
  const ks_micro_model *model = decoder->model;
  for (uint32_t i = 0; i < model->state_count; i++) {
    const ks_micro_state *state = &model->states[i];
    const int16_t *first = state->first == KS_MICRO_NONE ? NULL : model->constants + state->first;
    for (uint32_t j = 0; j < state->count; j++) decoder->memory[state->start + j] = first ? first[j] : 0;
  }
  decoder->token = model->vocabulary.start;
  decoder->needs_space = false;
}

void ks_micro_save(const ks_micro_decoder *decoder, int16_t *states) {
  for (uint32_t i = 0; i < decoder->model->state_count; i++) {
    const ks_micro_state *state = &decoder->model->states[i];
    memcpy(states, decoder->memory + state->start, state->count * sizeof *states);
    states += state->count;
  }
}

void ks_micro_restore(ks_micro_decoder *decoder, const int16_t *states) {
  for (uint32_t i = 0; i < decoder->model->state_count; i++) {
    const ks_micro_state *state = &decoder->model->states[i];
    memcpy(decoder->memory + state->start, states, state->count * sizeof *states);
    states += state->count;
  }
}

static void look_up(const ks_micro_operator *given, const int8_t *row, int16_t *out) {
  for (uint32_t i = 0; i < given->count; i++) out[i] = (int16_t)(row[i] * given->factor);
}

/* The row of an n-gram: its tokens times their factors, modulo the rows. The export made sure that the sum fits. */
static uint32_t row_of(const int32_t *hash, uint32_t length, uint32_t token, const int16_t *before) {
  uint32_t sum = token * (uint32_t)hash[2];
  for (uint32_t i = 1; i < length; i++) {
    int32_t one = before[i - 1] < 0 ? 0 : before[i - 1] > hash[0] ? hash[0] : before[i - 1];
    sum += (uint32_t)one * (uint32_t)hash[2 + i];
  }
  return sum % (uint32_t)hash[1];
}

static void run(ks_micro_decoder *decoder, uint32_t token) {
  const ks_micro_model *model = decoder->model;
  for (uint32_t i = 0; i < model->operator_count; i++) {
    const ks_micro_operator *given = &model->operators[i];
    const int16_t *a = (given->flags & KS_MICRO_A_CONSTANT ? model->constants : decoder->memory) + given->a;
    const int16_t *b = (given->flags & KS_MICRO_B_CONSTANT ? model->constants : decoder->memory) + given->b;
    int16_t *out = decoder->memory + given->out;
    const int8_t *weights = model->weights + given->weights;
    if (given->kind == KS_MICRO_LOOKUP) {
      look_up(given, weights + (size_t)token * given->size + given->a, out);
    } else if (given->kind == KS_MICRO_NGRAM) {
      uint32_t row = row_of(model->biases + given->biases, given->b, token, a);
      look_up(given, weights + (size_t)row * given->size, out);
    } else if (given->kind == KS_MICRO_TOKEN) {
      *out = (int16_t)token;
    } else if (given->kind == KS_MICRO_PRODUCT) {
      ks_micro_product(weights, model->biases + given->biases, a, out, given->count, given->size, given->shift);
    } else {
      ks_micro_elementwise(given, a, b, model->sigmoid, out);
    }
    for (uint32_t j = 0; given->flags & KS_MICRO_RELU && j < given->count; j++)
      if (out[j] < 0) out[j] = 0;
  }
}

ks_micro_status ks_micro_step(ks_micro_decoder *decoder, uint32_t token) {
  if (!decoder || !decoder->model) return KS_MICRO_BAD_ARGUMENT;
  if (!decoder->model->tokens) return KS_MICRO_NOT_OF_TEXT;
  if (token >= decoder->model->tokens) return KS_MICRO_NO_TOKEN;
  run(decoder, token);
  return KS_MICRO_OK;
}

ks_micro_status ks_micro_step_frame(ks_micro_decoder *decoder, const int16_t *frame) {
  if (!decoder || !decoder->model || !frame) return KS_MICRO_BAD_ARGUMENT;
  const ks_micro_model *model = decoder->model;
  if (model->tokens) return KS_MICRO_NOT_OF_FRAMES;
  memcpy(decoder->memory + model->frame, frame, model->frame_count * sizeof *frame);
  run(decoder, 0);
  return KS_MICRO_OK;
}

const int16_t *ks_micro_output(const ks_micro_decoder *decoder) { return decoder->memory + decoder->model->output; }
