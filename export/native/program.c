/* Continues a prompt with a .tflite of keras_seq and prints the same text as `keras-seq sample`. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keras_seq.h"

/* Prints one sentence and ends the program. */
#if defined(__GNUC__)
__attribute__((noreturn, format(printf, 1, 2)))
#endif
static void fail(const char *sentence, ...) {
  va_list values;
  va_start(values, sentence);
  fputs("keras_seq: ", stderr);
  vfprintf(stderr, sentence, values);
  fputc('\n', stderr);
  va_end(values);
  exit(1);
}

/* Ends the program if a call of the library failed. The names of the arguments of ks_write are those of the flags. */
static void check(ks_status status, const ks_error *error) {
  bool is_flag = status == KS_BAD_ARGUMENT || status == KS_BAD_TEXT;
  if (status) fail("%s%s", is_flag ? "--" : "", error->text);
}

/* ---- flags ---- */

static const char HELP[] =
    "keras_seq MODEL.tflite [--prompt=TEXT | -] [--max_tokens=200] [--temperature=1] [--top_k=0] [--top_p=1] [--min_p=0] "
    "[--seed=N] [--stop=TEXT]... [--learned=FILE] [--learn=FILE] [--save_learned=FILE] [--time]\n"
    "Prints the prompt and a continuation, the same as `keras-seq sample --model=MODEL.tflite` with these flags.\n"
    "- reads the prompt from standard input, all of it: a line feed at its end belongs to the prompt.\n"
    "--temperature=0 takes the most likely token; --top_k=0, --top_p=1 and --min_p=0 are off.\n"
    "--stop ends the text before this string; it may be repeated.\n"
    "--learned loads what the model has learned from a learned file; --learn lets it learn from a text file, and --save_learned\n"
    "writes all that it has learned to a file. These come before the text is written; with --learn or --save_learned, one is\n"
    "written only for a prompt.\n"
    "--time reports the time per token, and the part of it spent in the model.\n"
    "--version prints the version.\n";

typedef struct {
  char *prompt; /* NULL without one */
  ks_options options;
  const char **stops;
  const char *learned, *text_file, *save_learned; /* NULL without one */
  bool has_seed, reads_input, time;
} Request;

static double real_number(const char *flag, const char *text, double least, double most) {
  char *end;
  double value = strtod(text, &end);
  if (!*text || *end || !(value >= least && value <= most)) fail("%s must be a number from %g to %g. Received: %s", flag, least, most, text);
  return value;
}

static int64_t integer(const char *flag, const char *text, int64_t least, int64_t most) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (!*text || *end || errno || value < least || value > most)
    fail("%s must be an integer from %" PRId64 " to %" PRId64 ". Received: %s", flag, least, most, text);
  return value;
}

static uint64_t seed_number(const char *text) {
  char *end;
  errno = 0;
  uint64_t value = *text == '-' ? (uint64_t)strtoll(text, &end, 10) : (uint64_t)strtoull(text, &end, 10);
  if (!*text || *end || errno) fail("--seed must be a 64-bit integer. Received: %s", text);
  return value;
}

/* Returns what follows `--NAME=`, or NULL if the argument is not this flag. */
static const char *value_of(const char *argument, const char *flag) {
  size_t size = strlen(flag);
  return !strncmp(argument, flag, size) && argument[size] == '=' ? argument + size + 1 : NULL;
}

/* Returns whether an argument is the name of a flag that needs a value. */
static bool needs_value(const char *argument) {
  size_t size = strlen(argument);
  for (const char *at = HELP; size > 2 && (at = strstr(at, argument)); at += size)
    if (at[size] == '=') return true;
  return false;
}

/* Takes a flag of ks_options; returns whether the argument is one. */
static bool read_option(const char *argument, Request *request) {
  ks_options *options = &request->options;
  const char *value;
  if ((value = value_of(argument, "--max_tokens"))) {
    options->max_tokens = (int32_t)integer("--max_tokens", value, 1, INT32_MAX);
  } else if ((value = value_of(argument, "--temperature"))) {
    options->temperature = (float)real_number("--temperature", value, 0, 1e6);
  } else if ((value = value_of(argument, "--top_k"))) {
    options->top_k = (int32_t)integer("--top_k", value, 0, INT32_MAX);
  } else if ((value = value_of(argument, "--top_p"))) {
    options->top_p = (float)real_number("--top_p", value, 1e-30, 1);
  } else if ((value = value_of(argument, "--min_p"))) {
    options->min_p = (float)real_number("--min_p", value, 0, 1);
  } else if ((value = value_of(argument, "--seed"))) {
    options->seed = seed_number(value);
    request->has_seed = true;
  } else if ((value = value_of(argument, "--stop"))) {
    if (!*value) fail("--stop must be a text of at least one character");
    request->stops[options->stop_count++] = value;
  } else {
    return false;
  }
  return true;
}

/* Takes a flag that names a file; returns whether the argument is one. */
static bool read_learn_flag(const char *argument, Request *request) {
  const char *value;
  if ((value = value_of(argument, "--learned"))) {
    request->learned = value;
  } else if ((value = value_of(argument, "--learn"))) {
    request->text_file = value;
  } else if ((value = value_of(argument, "--save_learned"))) {
    request->save_learned = value;
  } else {
    return false;
  }
  if (!*value) fail("%.*s needs the name of a file", (int)(value - 1 - argument), argument);
  return true;
}

static void read_flags(int count, char **arguments, Request *request) {
  request->stops = calloc((size_t)count, sizeof *request->stops);
  if (!request->stops) fail("out of memory");
  request->options.stops = request->stops;
  for (int i = 2; i < count; i++) {
    const char *argument = arguments[i], *value;
    if (read_option(argument, request)) continue;
    if ((value = value_of(argument, "--prompt"))) {
      free(request->prompt);
      request->prompt = strdup(value);
      if (!request->prompt) fail("out of memory");
    } else if (read_learn_flag(argument, request)) {
      continue;
    } else if (!strcmp(argument, "-")) {
      request->reads_input = true;
    } else if (!strcmp(argument, "--time")) {
      request->time = true;
    } else if (*argument != '-') {
      fail("only flags may follow the file. Received: %s", argument);
    } else if (needs_value(argument)) {
      fail("%s needs a value after =, such as --prompt=TEXT", argument);
    } else {
      fail("there is no flag %s; --help lists them", argument);
    }
  }
  if (request->reads_input && request->prompt) fail("give the prompt with --prompt or with -, not both");
}

/* Returns the text of a file, which messages call `name`; `flag` is what takes it. */
static char *read_text(FILE *file, const char *name, const char *flag) {
  char *text = NULL;
  size_t size = 0, got = 1;
  for (size_t room = 0; got; size += got) {
    if (room < size + 2) {
      room = 2 * size + 4096;
      if (!(text = realloc(text, room))) fail("out of memory");
    }
    got = fread(text + size, 1, room - size - 1, file);
  }
  if (ferror(file)) fail("%s cannot be read: %s", name, strerror(errno));
  text[size] = 0;
  if (strlen(text) != size) fail("%s must not contain the character U+0000", flag);
  return text;
}

/* ---- text ---- */

/* LiteRT reports its delegate on stderr; no option turns this off. The program hides it, the library may not. */
static ks_model *open_quietly(const char *path) {
  ks_model *model;
  ks_error error;
  int saved_stderr = dup(2), null = open("/dev/null", O_WRONLY);
  if (null >= 0) dup2(null, 2);
  ks_status status = ks_open(path, &model, &error);
  if (saved_stderr >= 0) dup2(saved_stderr, 2);
  if (saved_stderr >= 0) close(saved_stderr);
  if (null >= 0) close(null);
  if (status) fail("%s", error.text);
  return model;
}

/* Checks the prompt, and reports the tokens that the model does not know. */
static void check_prompt(const ks_model *model, const char *prompt) {
  ks_error error;
  int32_t *ids, unknown = ks_unknown_id(model);
  size_t count, foreign = 0;
  ks_status status = ks_encode(model, prompt, &ids, &count, &error);
  if (status == KS_BAD_TEXT) fail("--prompt%s", strchr(error.text, ' ')); /* the library calls it `text` */
  check(status, &error);
  for (size_t i = 0; i < count; i++) foreign += ids[i] == unknown;
  ks_free(ids);
  if (!foreign) return;
  char *token;
  check(ks_decode(model, &unknown, 1, &token, NULL, &error), &error);
  fprintf(stderr, "keras_seq: %zu of %zu tokens of the prompt are read as %s\n", foreign, count, token);
  ks_free(token);
}

static bool print_piece(const ks_piece *piece, void *unused) {
  (void)unused;
  fwrite(piece->text, 1, piece->size, stdout);
  if (fflush(stdout)) fail("the text cannot be written: %s", strerror(errno));
  return true;
}

static void write_text(ks_model *model, const Request *request) {
  ks_error error;
  ks_result result;
  const char *prompt = request->prompt ? request->prompt : "";
  check_prompt(model, prompt);
  if (!request->has_seed) fprintf(stderr, "keras_seq: --seed=%" PRIu64 "\n", request->options.seed);
  fputs(prompt, stdout);
  fflush(stdout);
  check(ks_write(model, prompt, &request->options, print_piece, NULL, &result, &error), &error);
  putchar('\n');
  if (fflush(stdout)) fail("the text cannot be written: %s", strerror(errno));
  if (request->time)
    fprintf(stderr, "keras_seq: %" PRId32 " tokens, %.1f us per token, of which %.1f us in the model (ratio %.2f)\n", result.tokens,
            result.seconds / result.tokens * 1e6, result.model_seconds / result.tokens * 1e6,
            result.seconds / result.model_seconds);
}

/* ---- learning ---- */

static void learn_from(ks_model *model, const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fail("%s cannot be read: %s", path, strerror(errno));
  char *text = read_text(file, path, "--learn");
  fclose(file);
  ks_error error;
  ks_learn_report report;
  ks_status status = ks_learn(model, text, NULL, &report, &error);
  if (status == KS_BAD_TEXT) fail("--learn%s", strchr(error.text, ' ')); /* the library calls it `text` */
  check(status, &error);
  free(text);
  fprintf(stderr, "keras_seq: learned from %" PRIu64 " tokens: %.3f nats per token while learning, %.3f without; weight %.2f\n",
          report.tokens, report.nats_per_token, report.model_nats_per_token, report.weight);
}

static void learn(ks_model *model, const Request *request) {
  ks_error error;
  if (request->learned) check(ks_load_learned(model, request->learned, &error), &error);
  if (request->text_file) learn_from(model, request->text_file);
  if (request->save_learned) check(ks_save_learned(model, request->save_learned, &error), &error);
}

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    if (!strcmp(arguments[i], "--help") || !strcmp(arguments[i], "-h")) return fputs(HELP, stdout) < 0;
    if (!strcmp(arguments[i], "--version")) return printf("keras_seq %s\n", ks_version()) < 0;
  }
  if (count < 2 || *arguments[1] == '-') fail("the first argument must be the model's file: keras_seq MODEL.tflite --prompt=TEXT");
  Request request = {.prompt = NULL};
  ks_error error;
  ks_model *model = open_quietly(arguments[1]);
  check(ks_default_options(model, &request.options, &error), &error);
  read_flags(count, arguments, &request);
  if (request.reads_input) request.prompt = read_text(stdin, "standard input", "--prompt");
  learn(model, &request);
  if (request.prompt || !(request.text_file || request.save_learned)) write_text(model, &request);
  ks_close(model);
  free(request.prompt);
  free(request.stops);
  return 0;
}
