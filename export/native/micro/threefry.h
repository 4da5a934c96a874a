/* The random stream of every runtime: Threefry-2x32-20, Salmon et al. 2011. */
#ifndef KERAS_SEQ_THREEFRY_H
#define KERAS_SEQ_THREEFRY_H

#include <stdint.h>

/* Returns the first word; its upper 24 bits are the uniform number of a token. */
uint32_t ks_threefry(uint64_t seed, uint32_t position);

#endif
