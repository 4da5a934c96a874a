/* The model of an example, its memory, and the settings that `make OPTIONS=...` may change.
 *
 * KS_MODEL is the model's name in C, KS_CAPITALS that of its macros, and KS_HEADER its header; see the Makefile. */
#ifndef EXAMPLE_MODEL_H
#define EXAMPLE_MODEL_H

#include "keras_seq_micro.h"

#include KS_HEADER

#ifndef SETTINGS
#define SETTINGS JOIN(KS_CAPITALS, _SETTINGS) /* of the export */
#endif
#ifndef TEXTS
#define TEXTS 3
#endif
#ifndef TOKENS
#define TOKENS 100
#endif
#ifndef FIRST_SEED
#define FIRST_SEED 0
#endif
#define JOIN(left, right) JOIN_EXPANDED(left, right)
#define JOIN_EXPANDED(left, right) left##right

static int16_t memory[JOIN(KS_CAPITALS, _MEMORY) / 2];

#endif
