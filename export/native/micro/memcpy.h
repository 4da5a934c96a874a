/* All that the decoder needs of a C library. A program without one defines it, as firmware/startup.c does. */
#ifndef KERAS_SEQ_MICRO_MEMCPY_H
#define KERAS_SEQ_MICRO_MEMCPY_H

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);

#endif
