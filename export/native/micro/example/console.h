/* Where the example prints: a terminal, or the emulator's semihosting. */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stddef.h>
#include <stdint.h>

void console_write(const char *bytes, size_t size);
/* Returns instructions since the start where the machine counts them, otherwise 0. */
uint64_t console_instructions(void);
/* Returns the bytes of stack that were used, where that is known, otherwise 0. */
size_t console_stack(void);

#endif
