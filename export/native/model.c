/* The model in LiteRT: its signatures, whose inputs and outputs are found by name, and calls of them.
 *
 * The states are kept outside LiteRT and copied into and out of its buffers: a kilobyte or so, which takes well below one
 * percent of a step. So a text can go back to earlier states, and any signature can follow any other. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"
#include "litert.h"

/* An input or output that a signature must have. */
typedef struct {
  const char *name;
  int32_t element;
  size_t count;  /* of its elements; 0 for any */
  void *address; /* of the pointer to its values, which is set */
  size_t *found; /* is set to the number of elements, unless NULL */
} Part;

static ks_status check(const ks_runtime *runtime, int status, const char *action, ks_error *error) {
  if (!status) return KS_OK;
  return ks_fail(error, KS_FAILED, "%s cannot be %s: LiteRT error %d", runtime->name, action, status);
}

/* Returns the number of a state from its name, state_0 and so on; -1 if it is another name. */
static int state_number(const char *name) {
  if (strncmp(name, "state_", 6)) return -1;
  const char *digits = name + 6;
  if (!*digits || strlen(digits) > 3 || strspn(digits, "0123456789") != strlen(digits) || (*digits == '0' && digits[1])) return -1;
  return atoi(digits);
}

/* Keeps where the values of a state are. The first signature that is loaded says how large each state is. */
static ks_status take_state(ks_runtime *runtime, int number, int32_t element, size_t bytes, void *values, void **states,
                            const char *name, ks_error *error) {
  if (number >= KS_MOST_TENSORS) return ks_fail(error, KS_BAD_FILE, "%s has too many states", runtime->name);
  size_t *expected = &runtime->state_bytes[number];
  if (!*expected && !runtime->first_states) *expected = bytes;
  if (*expected != bytes || element != FLOAT32)
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged model: %s has %zu and %zu bytes", runtime->name, name, *expected, bytes);
  states[number] = values;
  return KS_OK;
}

static ks_status take_part(const ks_runtime *runtime, const char *name, int32_t element, size_t bytes, void *values,
                           const Part *parts, ks_error *error) {
  for (const Part *part = parts; part->name; part++) {
    if (strcmp(part->name, name)) continue;
    size_t count = bytes / sizeof(int32_t); /* float32 has this size too */
    if (element != part->element || !count || (part->count && count != part->count))
      return ks_fail(error, KS_BAD_FILE, "%s has a damaged model: %s has %zu bytes, or another type", runtime->name, name, bytes);
    memcpy(part->address, &values, sizeof values);
    if (part->found) *part->found = count;
    return KS_OK;
  }
  return ks_fail(error, KS_BAD_FILE, "%s has an input or output %s, which this library does not know", runtime->name, name);
}

/* Requires all parts and all states to have been found. */
static ks_status check_parts(const ks_runtime *runtime, const Part *parts, void *const *states, size_t state_count,
                             ks_error *error) {
  const char *missing = "%s has no input or output %s: export it with keras-seq export";
  for (const Part *part = parts; part->name; part++) {
    void *values;
    memcpy(&values, part->address, sizeof values);
    if (!values) return ks_fail(error, KS_BAD_FILE, missing, runtime->name, part->name);
  }
  for (size_t i = 0; i < state_count; i++) {
    if (states[i]) continue;
    char name[32];
    snprintf(name, sizeof name, "state_%zu", i);
    return ks_fail(error, KS_BAD_FILE, missing, runtime->name, name);
  }
  return KS_OK;
}

/* Creates the buffer of an input or output; gives its name, its type, and where its values are. On the CPU, this address does
 * not change. */
static int create_buffer(const ks_runtime *runtime, ks_object signature, size_t index, size_t place, bool is_input,
                         ks_object *buffer, const char **name, int32_t *element, size_t *bytes, void **values) {
  ks_object tensor, requirements;
  TensorType type;
  int status = is_input ? LiteRtGetSignatureInputName(signature, place, name) : LiteRtGetSignatureOutputName(signature, place, name);
  if (!status)
    status = is_input ? LiteRtGetSignatureInputTensorByIndex(signature, place, &tensor)
                      : LiteRtGetSignatureOutputTensorByIndex(signature, place, &tensor);
  if (!status) status = LiteRtGetRankedTensorType(tensor, &type);
  if (!status)
    status = is_input ? LiteRtGetCompiledModelInputBufferRequirements(runtime->compiled, index, place, &requirements)
                      : LiteRtGetCompiledModelOutputBufferRequirements(runtime->compiled, index, place, &requirements);
  if (!status) status = LiteRtCreateManagedTensorBufferFromRequirements(runtime->environment, &type, requirements, buffer);
  if (!status) status = LiteRtGetTensorBufferPackedSize(*buffer, bytes);
  if (!status) status = LiteRtGetTensorBufferHostMemory(*buffer, values);
  if (!status) *element = type.element;
  return status;
}

/* Creates all input or all output buffers of a signature. */
static ks_status create_buffers(ks_runtime *runtime, ks_object found, ks_signature *signature, bool is_input, const Part *parts,
                                ks_error *error) {
  size_t count;
  TRY(check(runtime, is_input ? LiteRtGetNumSignatureInputs(found, &count) : LiteRtGetNumSignatureOutputs(found, &count),
            "loaded", error));
  if (count > KS_MOST_TENSORS)
    return ks_fail(error, KS_BAD_FILE, "%s must have at most %d inputs or outputs in a signature. Received: %zu", runtime->name,
                   KS_MOST_TENSORS, count);
  ks_object *buffers = is_input ? signature->inputs : signature->outputs;
  void **states = is_input ? signature->input_states : signature->output_states;
  *(is_input ? &signature->input_count : &signature->output_count) = count;
  for (size_t i = 0; i < count; i++) {
    const char *name = NULL;
    int32_t element = 0;
    size_t bytes = 0;
    void *values = NULL;
    int status = create_buffer(runtime, found, signature->index, i, is_input, &buffers[i], &name, &element, &bytes, &values);
    TRY(check(runtime, status, "loaded", error));
    int number = state_number(name);
    if (number >= 0) {
      TRY(take_state(runtime, number, element, bytes, values, states, name, error));
    } else {
      TRY(take_part(runtime, name, element, bytes, values, parts, error));
    }
  }
  return KS_OK;
}

/* Gives the signature with a name, and its index; NULL if the file has no such signature. */
static ks_status find_signature(const ks_runtime *runtime, const char *name, ks_object *signature, size_t *index,
                                ks_error *error) {
  size_t count;
  TRY(check(runtime, LiteRtGetNumModelSignatures(runtime->model, &count), "loaded", error));
  for (*index = 0; *index < count; ++*index) {
    const char *key;
    TRY(check(runtime, LiteRtGetModelSignature(runtime->model, *index, signature), "loaded", error));
    TRY(check(runtime, LiteRtGetSignatureKey(*signature, &key), "loaded", error));
    if (!strcmp(key, name)) return KS_OK;
  }
  *signature = NULL;
  return KS_OK;
}

/* Counts the states that `decode` has; all other signatures must have them too. */
static ks_status count_states(ks_runtime *runtime, ks_error *error) {
  size_t found = 0;
  for (size_t i = 0; i < KS_MOST_TENSORS; i++) {
    runtime->states_size += runtime->state_bytes[i];
    found += runtime->state_bytes[i] > 0;
    if (runtime->state_bytes[i]) runtime->state_count = i + 1;
  }
  if (!found || found != runtime->state_count)
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged model: it has %zu of %zu states", runtime->name, found,
                   runtime->state_count);
  runtime->first_states = calloc(1, runtime->states_size);
  return runtime->first_states ? KS_OK : ks_no_memory(error);
}

/* Which states a signature has: none, those that it returns, or also those that it takes. */
typedef enum { NO_STATES, RETURNED, TAKEN_AND_RETURNED } States;

/* Loads a signature, if the file has it. */
static ks_status load_signature(ks_runtime *runtime, ks_signature *signature, const char *name, States states,
                                const Part *inputs, const Part *outputs, ks_error *error) {
  ks_object found;
  signature->name = name;
  TRY(find_signature(runtime, name, &found, &signature->index, error));
  if (!found) return KS_OK;
  TRY(create_buffers(runtime, found, signature, true, inputs, error));
  TRY(create_buffers(runtime, found, signature, false, outputs, error));
  if (!runtime->first_states) TRY(count_states(runtime, error)); /* this is `decode` */
  size_t taken = states == TAKEN_AND_RETURNED ? runtime->state_count : 0, returned = states ? runtime->state_count : 0;
  TRY(check_parts(runtime, inputs, signature->input_states, taken, error));
  TRY(check_parts(runtime, outputs, signature->output_states, returned, error));
  signature->exists = true;
  return KS_OK;
}

#define PART(name, element, count, pointer) {name, element, count, &(pointer), NULL}

static const Part END = {NULL, 0, 0, NULL, NULL}, NOTHING[] = {{NULL, 0, 0, NULL, NULL}};

/* Loads the signatures that write, complete and score text. */
static ks_status load_text(ks_runtime *r, ks_error *error) {
  const Part decode_in[] = {PART("token", INT32, 1, r->decoded.token), END};
  const Part decode_out[] = {{"logits", FLOAT32, 0, &r->decoded.logits, &r->logit_count}, END};
  TRY(load_signature(r, &r->decode, "decode", TAKEN_AND_RETURNED, decode_in, decode_out, error));
  if (!r->decode.exists)
    return ks_fail(error, KS_BAD_FILE, "%s must have the signatures decode, prefill and sample: export it with keras-seq export",
                   r->name);
  const Part prefill_in[] = {{"tokens", INT32, 0, &r->prefilled.tokens, &r->prefill_steps},
                             PART("length", INT32, 1, r->prefilled.length), END};
  const Part prefill_out[] = {PART("logits", FLOAT32, r->logit_count, r->prefilled.logits), END};
  TRY(load_signature(r, &r->prefill, "prefill", TAKEN_AND_RETURNED, prefill_in, prefill_out, error));
  const Part sample_in[] = {PART("token", INT32, 1, r->sampled.token), PART("uniform", FLOAT32, 1, r->sampled.uniform),
                            PART("temperature", FLOAT32, 1, r->sampled.temperature), PART("top_k", INT32, 1, r->sampled.top_k),
                            PART("top_p", FLOAT32, 1, r->sampled.top_p), PART("min_p", FLOAT32, 1, r->sampled.min_p), END};
  const Part sample_out[] = {PART("next_token", INT32, 1, r->sampled.next_token),
                             PART("log_probability", FLOAT32, 1, r->sampled.log_probability), END};
  TRY(load_signature(r, &r->sample, "sample", TAKEN_AND_RETURNED, sample_in, sample_out, error));
  if (!r->prefill.exists || !r->sample.exists)
    return ks_fail(error, KS_BAD_FILE, "%s must have the signatures decode, prefill and sample: export it with keras-seq export",
                   r->name);
  return load_signature(r, &r->start, "start", RETURNED, NOTHING, NOTHING, error);
}

/* Loads the signatures of a model that learns. `learn` exists only if all four do. */
static ks_status load_learning(ks_runtime *r, ks_error *error) {
  const Part learn_in[] = {PART("tokens", INT32, KS_LEARN_STEPS, r->learned.tokens),
                           PART("next_tokens", INT32, KS_LEARN_STEPS, r->learned.next_tokens),
                           PART("length", INT32, 1, r->learned.length), PART("rate", FLOAT32, 1, r->learned.rate), END};
  const Part learn_out[] = {PART("log_probabilities", FLOAT32, KS_LEARN_STEPS, r->learned.log_probabilities),
                            PART("model_log_probabilities", FLOAT32, KS_LEARN_STEPS, r->learned.model_log_probabilities), END};
  TRY(load_signature(r, &r->learn, "learn", TAKEN_AND_RETURNED, learn_in, learn_out, error));
  const Part got[] = {{"weights", FLOAT32, 0, &r->got.weights, &r->weight_count},
                      PART("log_shares", FLOAT32, KS_SHARES, r->got.shares), END};
  TRY(load_signature(r, &r->get_weights, "get_weights", NO_STATES, NOTHING, got, error));
  const Part set_in[] = {PART("weights", FLOAT32, r->weight_count, r->set.weights),
                         PART("log_shares", FLOAT32, KS_SHARES, r->set.shares), END};
  const Part set_out[] = {PART("log_shares", FLOAT32, KS_SHARES, r->shares_after_set), END};
  TRY(load_signature(r, &r->set_weights, "set_weights", NO_STATES, set_in, set_out, error));
  const Part reset[] = {PART("log_shares", FLOAT32, KS_SHARES, r->shares_after_reset), END};
  TRY(load_signature(r, &r->reset_weights, "reset_weights", NO_STATES, NOTHING, reset, error));
  const ks_signature *const all[] = {&r->learn, &r->get_weights, &r->set_weights, &r->reset_weights};
  size_t found = 0;
  for (size_t i = 0; i < 4; i++) found += all[i]->exists;
  if (!found || (found == 4 && r->weight_count % r->logit_count == 0)) return KS_OK;
  return ks_fail(error, KS_BAD_FILE, "%s has a damaged model: it has %zu of the 4 signatures that learn, and %zu weights for %zu "
                 "tokens", r->name, found, r->weight_count, r->logit_count);
}

static ks_status create_model(ks_runtime *runtime, ks_bytes model, ks_error *error) {
  const EnvironmentOption options[] = {{MIN_LOGGER_SEVERITY, 0, INTEGER, 0, SILENT},
                                       {AUTO_REGISTER_ACCELERATORS, 0, INTEGER, 0, CPU}};
  TRY(check(runtime, LiteRtCreateEnvironment(2, options, &runtime->environment), "loaded", error));
  TRY(check(runtime, LiteRtCreateModelFromBuffer(runtime->environment, model.data, model.size, &runtime->model), "loaded", error));
  TRY(check(runtime, LiteRtCreateOptions(&runtime->options), "loaded", error));
  TRY(check(runtime, LiteRtSetOptionsHardwareAccelerators(runtime->options, CPU), "loaded", error));
  ks_object encode;
  size_t index;
  TRY(find_signature(runtime, "encode", &encode, &index, error));
  if (encode)
    return ks_fail(error, KS_BAD_FILE, "%s begins with the states of an encoder, which this library cannot run", runtime->name);
  int status = LiteRtCreateCompiledModel(runtime->environment, runtime->model, runtime->options, &runtime->compiled);
  return check(runtime, status, "loaded", error);
}

ks_status ks_load(ks_runtime *runtime, ks_bytes model, const char *name, ks_error *error) {
  *runtime = (ks_runtime){.name = name};
  TRY(create_model(runtime, model, error));
  TRY(load_text(runtime, error));
  TRY(load_learning(runtime, error));
  /* Without `start`, the states begin at zero. */
  return runtime->start.exists ? ks_run(runtime, &runtime->start, NULL, runtime->first_states, error) : KS_OK;
}

static void unload_signature(ks_signature *signature) {
  for (size_t i = 0; i < KS_MOST_TENSORS; i++) {
    if (signature->inputs[i]) LiteRtDestroyTensorBuffer(signature->inputs[i]);
    if (signature->outputs[i]) LiteRtDestroyTensorBuffer(signature->outputs[i]);
  }
}

void ks_unload(ks_runtime *runtime) {
  ks_signature *signatures[] = {&runtime->decode, &runtime->prefill,     &runtime->sample,      &runtime->start,
                                &runtime->learn,  &runtime->get_weights, &runtime->set_weights, &runtime->reset_weights};
  for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++) unload_signature(signatures[i]);
  if (runtime->compiled) LiteRtDestroyCompiledModel(runtime->compiled);
  if (runtime->options) LiteRtDestroyOptions(runtime->options);
  if (runtime->model) LiteRtDestroyModel(runtime->model);
  if (runtime->environment) LiteRtDestroyEnvironment(runtime->environment);
  free(runtime->first_states);
}

ks_status ks_run(ks_runtime *runtime, ks_signature *signature, const uint8_t *before, uint8_t *after, ks_error *error) {
  for (size_t i = 0; before && i < runtime->state_count; before += runtime->state_bytes[i++])
    memcpy(signature->input_states[i], before, runtime->state_bytes[i]);
  int status = LiteRtRunCompiledModel(runtime->compiled, signature->index, signature->input_count, signature->inputs,
                                      signature->output_count, signature->outputs);
  if (status)
    return ks_fail(error, KS_FAILED, "%s cannot be run: LiteRT error %d in %s", runtime->name, status, signature->name);
  for (size_t i = 0; after && i < runtime->state_count; after += runtime->state_bytes[i++])
    memcpy(after, signature->output_states[i], runtime->state_bytes[i]);
  return KS_OK;
}

ks_status ks_step(ks_runtime *runtime, int32_t token, const uint8_t *before, uint8_t *after, ks_error *error) {
  *runtime->decoded.token = token;
  return ks_run(runtime, &runtime->decode, before, after, error);
}

bool ks_has_finite_logits(ks_runtime *runtime, int32_t token, const uint8_t *before, uint8_t *after) {
  if (ks_step(runtime, token, before, after, NULL)) return false;
  for (size_t i = 0; i < runtime->logit_count; i++)
    if (!isfinite(runtime->decoded.logits[i])) return false;
  return true;
}
