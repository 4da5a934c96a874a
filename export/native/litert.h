/* The C interface of libLiteRt 2, whose wheel contains no headers. Every function except LiteRtDestroy... returns 0 or an
 * error number. */
#ifndef KERAS_SEQ_LITERT_H
#define KERAS_SEQ_LITERT_H

#include <stddef.h>
#include <stdint.h>

typedef struct LiteRtObject *Object;
typedef struct { /* LiteRtRankedTensorType; only the type of the elements is read here */
  int32_t element;
  uint64_t opaque[32];
} TensorType;
typedef struct { /* LiteRtEnvOption with an integer */
  int tag, unused, type, unused_too;
  int64_t value;
} EnvironmentOption;
enum { MIN_LOGGER_SEVERITY = 25, AUTO_REGISTER_ACCELERATORS = 24, INTEGER = 2, SILENT = 4, CPU = 1 };
enum { FLOAT32 = 1, INT32 = 2 };

int LiteRtCreateEnvironment(int count, const EnvironmentOption *options, Object *environment);
int LiteRtCreateModelFromBuffer(Object environment, const void *bytes, size_t size, Object *model);
int LiteRtCreateOptions(Object *options);
int LiteRtSetOptionsHardwareAccelerators(Object options, int accelerators);
int LiteRtCreateCompiledModel(Object environment, Object model, Object options, Object *compiled);
int LiteRtGetNumModelSignatures(Object model, size_t *count);
int LiteRtGetModelSignature(Object model, size_t index, Object *signature);
int LiteRtGetSignatureKey(Object signature, const char **name);
int LiteRtGetNumSignatureInputs(Object signature, size_t *count);
int LiteRtGetNumSignatureOutputs(Object signature, size_t *count);
int LiteRtGetSignatureInputName(Object signature, size_t index, const char **name);
int LiteRtGetSignatureOutputName(Object signature, size_t index, const char **name);
int LiteRtGetSignatureInputTensorByIndex(Object signature, size_t index, Object *tensor);
int LiteRtGetSignatureOutputTensorByIndex(Object signature, size_t index, Object *tensor);
int LiteRtGetRankedTensorType(Object tensor, TensorType *type);
int LiteRtGetCompiledModelInputBufferRequirements(Object compiled, size_t signature, size_t index, Object *requirements);
int LiteRtGetCompiledModelOutputBufferRequirements(Object compiled, size_t signature, size_t index, Object *requirements);
int LiteRtCreateManagedTensorBufferFromRequirements(Object environment, const TensorType *type, Object requirements,
                                                    Object *buffer);
int LiteRtGetTensorBufferPackedSize(Object buffer, size_t *bytes);
int LiteRtGetTensorBufferHostMemory(Object buffer, void **address);
int LiteRtRunCompiledModel(Object compiled, size_t signature, size_t input_count, Object *inputs, size_t output_count,
                           Object *outputs);
void LiteRtDestroyTensorBuffer(Object buffer);
void LiteRtDestroyCompiledModel(Object compiled);
void LiteRtDestroyOptions(Object options);
void LiteRtDestroyModel(Object model);
void LiteRtDestroyEnvironment(Object environment);

#endif
