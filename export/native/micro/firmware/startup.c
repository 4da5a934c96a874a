/* What a Cortex-M4 needs to run main() without any library, in `qemu-system-arm -M mps2-an386 -cpu cortex-m4`. */
#include "console.h"

extern uint32_t stack_limit[], stack_top[], data_in_flash[], data_start[], data_end[], bss_start[], bss_end[];
int main(void);

/* ---- semihosting: the emulator, or a debugger, prints and ends the program ---- */

enum { SEMIHOSTING_WRITE = 0x05, SEMIHOSTING_EXIT = 0x20, SEMIHOSTING_OPEN = 0x01 };

static uint32_t call(uint32_t operation, const void *arguments) {
  register uint32_t r0 __asm__("r0") = operation;
  register const void *r1 __asm__("r1") = arguments;
  __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
  return r0;
}

void console_write(const char *bytes, size_t size) {
  static uint32_t handle;
  if (!handle) {
    const uint32_t open[] = {(uint32_t) ":tt", 4, 3}; /* to write to the terminal */
    handle = call(SEMIHOSTING_OPEN, open) + 1;
  }
  const uint32_t write[] = {handle - 1, (uint32_t)bytes, size};
  call(SEMIHOSTING_WRITE, write);
}

static void end(int code) {
  const uint32_t exit[] = {0x20026, (uint32_t)code}; /* ADP_Stopped_ApplicationExit */
  call(SEMIHOSTING_EXIT, exit);
}

/* ---- instructions: with `-icount shift=0` each takes a nanosecond, and the timer counts 25 MHz ---- */

#define SYSTICK ((volatile uint32_t *)0xE000E010)
enum { CONTROL, RELOAD, VALUE, NANOSECONDS = 40, LAST = 0xFFFFFF };

/* The timer wraps after 671 million instructions: differences of times that are less far apart are right. */
uint64_t console_instructions(void) {
  static uint64_t wraps;
  uint32_t control = SYSTICK[CONTROL]; /* which clears the flag of a wrap */
  if (!(control & 1)) {
    SYSTICK[RELOAD] = LAST;
    SYSTICK[VALUE] = 0;
    SYSTICK[CONTROL] = 5;
    while (!SYSTICK[VALUE]) {
    }
  }
  wraps += control >> 16 & 1;
  return (wraps * (LAST + 1) + (LAST - SYSTICK[VALUE])) * NANOSECONDS;
}

/* ---- stack: unused words keep their first value ---- */

static const uint32_t unused = 0x5AFE5AFE;

size_t console_stack(void) {
  const uint32_t *word = stack_limit;
  while (word < stack_top && *word == unused) word++;
  return (size_t)(stack_top - word) * sizeof *word;
}

/* ---- the start ---- */

void reset(void) {
  uint32_t *local = (uint32_t *)__builtin_frame_address(0) - 16;
  for (volatile uint32_t *word = stack_limit; word < local; word++) *word = unused;
  for (volatile uint32_t *to = data_start, *from = data_in_flash; to < data_end;) *to++ = *from++;
  for (volatile uint32_t *word = bss_start; word < bss_end; word++) *word = 0;
  end(main());
  for (;;) {
  }
}

static void fault(void) {
  static const char text[] = "fault\n";
  console_write(text, sizeof text - 1);
  end(1);
}

/* The first stack, and what the processor calls: at the start, and after a fault. */
__attribute__((section(".vectors"), used)) static const struct {
  uint32_t *stack;
  void (*handlers[15])(void);
} vectors = {stack_top, {reset, fault, fault, fault, fault, fault}};

/* Compilers call it for copies of memory. */
void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  char *next = to;
  const char *source = from;
  while (size--) *next++ = *source++;
  return to;
}
