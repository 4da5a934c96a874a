/* A reader of JSON (RFC 8259) that allocates nothing: values are found in the text itself.
 *
 * It refuses what Python's reader refuses, and NaN and Infinity. Of two members with one name the last counts. */
#include <string.h>

#include "internal.h"

enum { DEEPEST = 20 }; /* objects and lists inside each other, as in keras_seq_export/tflite/bundle.py */

static const char *skip_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

static const char *skip_word(const char *at, const char *end, const char *word) {
  size_t size = strlen(word);
  return (size_t)(end - at) >= size && !memcmp(at, word, size) ? at + size : NULL;
}

static bool is_digit(char byte) { return byte >= '0' && byte <= '9'; }

static bool is_hexadecimal(char byte) { return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F'); }

static const char *skip_digits(const char *at, const char *end) {
  if (at == end || !is_digit(*at)) return NULL;
  while (at < end && is_digit(*at)) at++;
  return at;
}

static const char *skip_number(const char *at, const char *end) {
  if (at < end && *at == '-') at++;
  if (at < end && *at == '0') {
    at++;
  } else if (!(at = skip_digits(at, end))) {
    return NULL;
  }
  if (at < end && *at == '.' && !(at = skip_digits(at + 1, end))) return NULL;
  if (at < end && (*at == 'e' || *at == 'E')) {
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    at = skip_digits(at, end);
  }
  return at;
}

static const char *skip_string(const char *at, const char *end) {
  for (at++; at < end; at++) {
    if (*at == '"') return at + 1;
    if ((unsigned char)*at < ' ') return NULL;
    if (*at != '\\') continue;
    if (++at == end) return NULL;
    if (*at == 'u') {
      for (int i = 0; i < 4; i++)
        if (++at == end || !is_hexadecimal(*at)) return NULL;
    } else if (!*at || !strchr("\"\\/bfnrt", *at)) {
      return NULL;
    }
  }
  return NULL;
}

static const char *skip_value(const char *at, const char *end, int depth);

/* Skips `"name":`, and the space around it. */
static const char *skip_name(const char *at, const char *end) {
  if (at == end || *at != '"' || !(at = skip_string(at, end))) return NULL;
  at = skip_space(at, end);
  return at < end && *at == ':' ? skip_space(at + 1, end) : NULL;
}

static const char *skip_inside(const char *at, const char *end, char last, int depth) {
  at = skip_space(at + 1, end);
  if (at < end && *at == last) return at + 1;
  for (;;) {
    if (last == '}' && !(at = skip_name(at, end))) return NULL;
    if (!(at = skip_value(at, end, depth + 1))) return NULL;
    at = skip_space(at, end);
    if (at == end) return NULL;
    if (*at == last) return at + 1;
    if (*at != ',') return NULL;
    at = skip_space(at + 1, end);
  }
}

/* Returns the end of the value at `at`, or NULL if it is not JSON. */
static const char *skip_value(const char *at, const char *end, int depth) {
  if (at == end || depth > DEEPEST) return NULL;
  switch (*at) {
    case '{': return skip_inside(at, end, '}', depth);
    case '[': return skip_inside(at, end, ']', depth);
    case '"': return skip_string(at, end);
    case 't': return skip_word(at, end, "true");
    case 'f': return skip_word(at, end, "false");
    case 'n': return skip_word(at, end, "null");
    default: return skip_number(at, end);
  }
}

ks_json ks_json_object(const char *text, size_t size) {
  size_t mark = size >= 3 && !memcmp(text, "\xEF\xBB\xBF", 3) ? 3 : 0; /* a byte order mark */
  const char *end = text + size, *start = skip_space(text + mark, end);
  if (start == end || *start != '{' || ks_valid_size(text, size) != size) return (ks_json){NULL, NULL};
  const char *after = skip_value(start, end, 0);
  return after && skip_space(after, end) == end ? (ks_json){start, after} : (ks_json){NULL, NULL};
}

bool ks_json_is_object(ks_json value) { return value.start && *value.start == '{'; }

bool ks_json_is_null(ks_json value) { return value.start && *value.start == 'n'; }

/* Compares a string without escapes. */
bool ks_json_equals(ks_json value, const char *string) {
  size_t size = strlen(string);
  return value.start && *value.start == '"' && (size_t)(value.end - value.start) == size + 2 &&
         !memcmp(value.start + 1, string, size);
}

ks_json ks_json_member(ks_json object, const char *name) {
  ks_json found = {NULL, NULL};
  if (!ks_json_is_object(object)) return found;
  const char *end = object.end, *at = skip_space(object.start + 1, end);
  while (*at == '"') {
    ks_json key = {at, skip_string(at, end)};
    const char *start = skip_name(at, end), *after = skip_value(start, end, 0);
    if (ks_json_equals(key, name)) found = (ks_json){start, after};
    at = skip_space(after, end);
    if (*at == ',') at = skip_space(at + 1, end);
  }
  return found;
}

/* Reads a number without strtod, which depends on the locale of the app. With up to 15 digits, as settings have them, the
 * result is the nearest double; with more, it may be one of its neighbours. */
bool ks_json_number(ks_json value, double *number) {
  const char *at = value.start;
  if (!at || !(*at == '-' || is_digit(*at))) return false;
  bool is_negative = *at == '-', is_fraction = false;
  double digits = 0, power = 1;
  int scale = 0, exponent = 0;
  for (at += is_negative; at < value.end && (is_digit(*at) || *at == '.'); at++) {
    if (*at == '.') {
      is_fraction = true;
    } else if (digits < 1e17) {
      digits = digits * 10 + (*at - '0');
      scale -= is_fraction;
    } else {
      scale += !is_fraction; /* digits that a double does not hold */
    }
  }
  if (at < value.end) { /* at "e" */
    bool is_small = *++at == '-';
    for (at += *at == '-' || *at == '+'; at < value.end; at++)
      if (exponent < 100000) exponent = exponent * 10 + (*at - '0');
    scale += is_small ? -exponent : exponent;
  }
  for (int i = scale < 0 ? -scale : scale; i > 0 && power < 1e300; i--) power *= 10;
  *number = (is_negative ? -1 : 1) * (scale < 0 ? digits / power : digits * power);
  return true;
}

bool ks_json_integer(ks_json value, int64_t *integer) {
  const char *at = value.start;
  if (!at || !(*at == '-' || is_digit(*at)) || value.end - at > 18) return false;
  int64_t found = 0;
  for (at += *value.start == '-'; at < value.end; at++) {
    if (!is_digit(*at)) return false;
    found = found * 10 + (*at - '0');
  }
  *integer = *value.start == '-' ? -found : found;
  return true;
}
