/* Writes texts of consecutive seeds with a model's header; the same source runs on a computer and on a microcontroller. */
#include "console.h"
#include "example_model.h"

#ifndef PROMPT
#define PROMPT ""
#endif

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
