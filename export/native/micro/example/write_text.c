/* Writes texts of consecutive seeds with a model's header; the same source runs on a computer and on a microcontroller.
 *
 * KS_MODEL is the model's name in C, KS_CAPITALS that of its macros, and KS_HEADER its header; see the Makefile. */
#include "keras_seq_micro.h"

#include KS_HEADER

#include "console.h"

#ifndef PROMPT
#define PROMPT ""
#endif
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

static void print(const char *text) {
  size_t size = 0;
  while (text[size]) size++;
  console_write(text, size);
}

static bool print_piece(const ks_micro_piece *piece, void *user) {
  (void)user;
  console_write(piece->text, piece->size);
  return true;
}

int main(void) {
  static const char prompt[] = PROMPT;
  ks_micro_decoder decoder;
  ks_micro_options options = {SETTINGS, FIRST_SEED, TOKENS};
  ks_micro_status status = ks_micro_open(&decoder, &KS_MODEL, memory, sizeof memory);
  for (uint32_t number = 0; !status && number < TEXTS; number++, options.seed++) {
    status = ks_micro_prompt(&decoder, prompt, sizeof prompt - 1);
    print(prompt);
    if (!status) status = ks_micro_write(&decoder, &options, print_piece, NULL);
    print("\n");
  }
  if (status) print(ks_micro_message(status));
  return (int)status;
}
