/* Runs the C decoder by commands from standard input, for the tests; MODEL and MODEL_HEADER are those of a model.
 *
 *   o BYTES                        open with so much memory
 *   s TOKEN                        a step; prints the logits
 *   f NUMBERS                      a step of a frame; prints the output
 *   p SIZE TEXT, r SIZE TEXT       a prompt; more text
 *   w SEED COUNT TEMPERATURE TOP_K TOP_P MIN_P   writes; prints tokens, then the text in hexadecimal digits
 *   g COUNT STEPS BYTES SIZE TEXT  suggestions
 *   n COUNT STEPS BYTES SIZE TEXT  the same after a text that was read
 *   c SEED POSITION                draws from the logits of the last step at temperature 1; prints the token
 *   v                              prints the states
 * Each answer begins with the status and `detail`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "keras_seq_micro.h"

#include MODEL_HEADER

static ks_micro_decoder decoder;
static char shown[1 << 16];
static size_t shown_size;

static void print_status(ks_micro_status status) { printf("%d %zu", (int)status, status ? decoder.detail : 0); }

static void print_numbers(const int16_t *numbers, size_t count) {
  for (size_t i = 0; i < count; i++) printf(" %d", numbers[i]);
}

static void print_hex(const char *text, size_t size) {
  for (size_t i = 0; i < size; i++) printf("%02x", (unsigned char)text[i]);
}

/* Reads SIZE TEXT into memory of just this size, so that the address sanitizer sees a byte too far. */
static char *read_text(size_t *size) {
  if (scanf("%zu", size) != 1) exit(2);
  getchar();
  char *text = malloc(*size ? *size : 1);
  if (!text || fread(text, 1, *size, stdin) != *size) exit(2);
  return text;
}

static bool on_piece(const ks_micro_piece *piece, void *user) {
  (void)user;
  printf(" %" PRIu32, piece->token);
  for (size_t i = 0; i < piece->size; i++) shown[shown_size++] = piece->text[i];
  return true;
}

static void write_text(void) {
  ks_micro_options options;
  if (scanf("%" SCNu64 "%" SCNu32 "%" SCNu64 "%" SCNu32 "%" SCNu32 "%" SCNu32, &options.seed, &options.max_tokens,
            &options.settings.temperature, &options.settings.top_k, &options.settings.top_p, &options.settings.min_p) != 6)
    exit(2);
  shown_size = 0;
  print_status(KS_MICRO_OK);
  ks_micro_status status = ks_micro_write(&decoder, &options, on_piece, NULL);
  printf(" ; ");
  print_status(status);
  printf(" ");
  print_hex(shown, shown_size);
}

static void choose(void) {
  const ks_micro_settings settings = KS_MICRO_SETTINGS(1.0, 0, 1.0, 0.0);
  uint64_t seed;
  uint32_t position, token = 0;
  if (scanf("%" SCNu64 "%" SCNu32, &seed, &position) != 2) exit(2);
  print_status(ks_micro_choose(&decoder, &settings, seed, position, &token));
  printf(" %" PRIu32, token);
}

static void suggest(bool is_next) {
  size_t count, steps, bytes, size, found = 0, begun = 0;
  if (scanf("%zu%zu%zu", &count, &steps, &bytes) != 3) exit(2);
  char *text = read_text(&size);
  void *workspace = malloc(bytes ? bytes : 1);
  ks_micro_suggestion suggestions[100];
  ks_micro_status status = (is_next ? ks_micro_suggest_next : ks_micro_suggest)(&decoder, text, size, count, steps, workspace,
                                                                               bytes, suggestions, &found, &begun);
  print_status(status);
  printf(" %zu", begun);
  for (size_t i = 0; !status && i < found; i++) {
    printf(" ");
    print_hex(suggestions[i].insert, suggestions[i].size);
    printf(" %" PRIu64, suggestions[i].cost);
  }
  free(workspace);
  free(text);
}

int main(void) {
  int16_t *memory = malloc(1), *states = malloc(sizeof(int16_t) * (MODEL.states_size + 1));
  uint32_t token;
  size_t bytes;
  for (int command = getchar(); command != EOF; command = getchar()) {
    char *text = NULL;
    switch (command) {
      case 'o':
        if (scanf("%zu", &bytes) != 1) return 2;
        memory = realloc(memory, bytes ? bytes : 1);
        print_status(ks_micro_open(&decoder, &MODEL, memory, bytes));
        break;
      case 's':
        if (scanf("%" SCNu32, &token) != 1) return 2;
        print_status(ks_micro_step(&decoder, token));
        print_numbers(ks_micro_output(&decoder), MODEL.output_count);
        break;
      case 'f': {
        int16_t *frame = malloc(sizeof(int16_t) * (MODEL.frame_count + 1));
        for (uint32_t i = 0; i < MODEL.frame_count; i++)
          if (scanf("%" SCNd16, &frame[i]) != 1) return 2;
        print_status(ks_micro_step_frame(&decoder, frame));
        print_numbers(ks_micro_output(&decoder), MODEL.output_count);
        free(frame);
        break;
      }
      case 'p':
      case 'r':
        text = read_text(&bytes);
        print_status((command == 'p' ? ks_micro_prompt : ks_micro_read)(&decoder, text, bytes));
        free(text);
        break;
      case 'w':
        write_text();
        break;
      case 'g':
      case 'n':
        suggest(command == 'n');
        break;
      case 'c':
        choose();
        break;
      case 'v':
        ks_micro_save(&decoder, states);
        print_status(KS_MICRO_OK);
        print_numbers(states, MODEL.states_size);
        break;
      default:
        continue; /* the end of a line */
    }
    printf("\n");
  }
  free(memory);
  free(states);
  return 0;
}
