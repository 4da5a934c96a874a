/* Writes the tokens of texts of consecutive seeds, with a hash of all logits so far: the proof that machines agree.
 *
 * A line is a seed, FNV-1a-64 over the int16 logits of every step (the low byte first), and the ids of the tokens. The last line
 * has the instructions of a step and the bytes of stack, where the machine counts them. */
#include "console.h"
#include "example_model.h"

static void print_number(uint64_t number, uint32_t base, int digits) {
  char text[21], *start = text + sizeof text;
  for (; number || digits > 0; number /= base, digits--) *--start = "0123456789abcdef"[number % base];
  console_write(start, (size_t)(text + sizeof text - start));
}

static uint64_t hash_logits(uint64_t hash, const int16_t *logits, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    uint16_t logit = (uint16_t)logits[i];
    hash = (hash ^ (logit & 0xFF)) * UINT64_C(1099511628211);
    hash = (hash ^ (logit >> 8)) * UINT64_C(1099511628211);
  }
  return hash;
}

int main(void) {
  static const ks_micro_settings settings = SETTINGS;
  ks_micro_decoder decoder;
  uint64_t hash = UINT64_C(14695981039346656037), instructions = 0;
  uint32_t steps = 0;
  ks_micro_status status = ks_micro_open(&decoder, &KS_MODEL, memory, sizeof memory);
  for (uint64_t seed = FIRST_SEED; !status && seed < FIRST_SEED + TEXTS; seed++) {
    uint32_t ids[TOKENS], count = 0;
    ks_micro_restart(&decoder);
    while (!status && count < TOKENS && (!count || decoder.token != KS_MODEL.vocabulary.eos)) {
      uint64_t before = console_instructions();
      status = ks_micro_step(&decoder, decoder.token);
      instructions += console_instructions() - before;
      steps++;
      hash = hash_logits(hash, ks_micro_output(&decoder), KS_MODEL.output_count);
      if (!status) status = ks_micro_choose(&decoder, &settings, seed, count, &ids[count]);
      count++;
    }
    print_number(seed, 10, 1);
    console_write(" ", 1);
    print_number(hash, 16, 16);
    for (uint32_t i = 0; i < count; i++) {
      console_write(" ", 1);
      print_number(ids[i], 10, 1);
    }
    console_write("\n", 1);
  }
  print_number(steps ? instructions / steps : 0, 10, 1);
  console_write(" ", 1);
  print_number(console_stack(), 10, 1);
  console_write("\n", 1);
  return (int)status;
}
