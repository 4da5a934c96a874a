/* Sentences for the caller. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

ks_status ks_fail(ks_error *error, ks_status status, const char *sentence, ...) {
  if (!error) return status;
  va_list values;
  va_start(values, sentence);
  int size = vsnprintf(error->text, sizeof error->text, sentence, values);
  va_end(values);
  if (size >= (int)sizeof error->text) error->text[ks_valid_size(error->text, strlen(error->text))] = 0; /* no half character */
  return status;
}

ks_status ks_no_memory(ks_error *error) { return ks_fail(error, KS_OUT_OF_MEMORY, "out of memory"); }
