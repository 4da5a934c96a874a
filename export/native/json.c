/* A reader of JSON (RFC 8259) that allocates nothing: values are found in the text itself.
 *
 * A byte order mark may come first; the nesting is limited, and a number with a fraction or an exponent must fit into a
 * double. Of two members with one name the last counts. */
#include <math.h>
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
  const char *start = at;
  if (at < end && *at == '-') at++;
  if (at < end && *at == '0') {
    at++;
  } else if (!(at = skip_digits(at, end))) {
    return NULL;
  }
  const char *after = at; /* an integer has any size */
  if (at < end && *at == '.' && !(at = skip_digits(at + 1, end))) return NULL;
  if (at < end && (*at == 'e' || *at == 'E')) {
    at++;
    if (at < end && (*at == '+' || *at == '-')) at++;
    if (!(at = skip_digits(at, end))) return NULL;
  }
  double number;
  return at == after || (ks_json_number((ks_json){start, at}, &number) && isfinite(number)) ? at : NULL;
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

bool ks_json_is_boolean(ks_json value) { return value.start && (*value.start == 't' || *value.start == 'f'); }

bool ks_json_is_true(ks_json value) { return value.start && *value.start == 't'; }

/* Returns the character of an escape after its backslash, and moves to its last byte; 0 if it is not ASCII. */
static char unescaped(const char **at) {
  static const char letters[] = "\"\\/bfnrt", characters[] = "\"\\/\b\f\n\r\t";
  if (**at != 'u') return characters[strchr(letters, **at) - letters];
  int code = 0;
  for (int i = 0; i < 4; i++) {
    char digit = *++*at;
    code = 16 * code + (is_digit(digit) ? digit - '0' : (digit | 0x20) - 'a' + 10);
  }
  return code < 0x80 ? (char)code : 0;
}

bool ks_json_string(ks_json value, char *text, size_t room) {
  if (!value.start || *value.start != '"') return false;
  size_t size = 0;
  for (const char *at = value.start + 1; at < value.end - 1; at++) {
    char byte = *at;
    if (byte == '\\') {
      at++;
      byte = unescaped(&at);
    }
    if (!byte || size + 1 >= room) return false;
    text[size++] = byte;
  }
  text[size] = 0;
  return true;
}

bool ks_json_equals(ks_json value, const char *string) {
  char text[128]; /* longer than all strings of the library */
  return ks_json_string(value, text, sizeof text) && !strcmp(text, string);
}

bool ks_json_next(ks_json object, ks_json *name, ks_json *value) {
  const char *end = object.end, *at = skip_space(value->start ? value->end : object.start + 1, end);
  if (*at == ',') at = skip_space(at + 1, end);
  if (*at != '"') return false;
  *name = (ks_json){at, skip_string(at, end)};
  const char *start = skip_name(at, end);
  *value = (ks_json){start, skip_value(start, end, 0)};
  return true;
}

ks_json ks_json_member(ks_json object, const char *name) {
  ks_json found = {NULL, NULL}, key, value = {NULL, NULL};
  while (ks_json_is_object(object) && ks_json_next(object, &key, &value))
    if (ks_json_equals(key, name)) found = value;
  return found;
}

/* Reads a number without strtod, which depends on the locale of the app. With up to 15 digits, as settings have them, the
 * result is the nearest double; with more, it may be one of its neighbours. */
bool ks_json_number(ks_json value, double *number) {
  const char *at = value.start;
  if (!at || !(*at == '-' || is_digit(*at))) return false;
  bool is_negative = *at == '-', is_fraction = false;
  double digits = 0;
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
  while (scale && digits > 0 && !isinf(digits)) { /* a double holds powers of ten up to 1e22 exactly */
    int step = scale < -22 ? 22 : scale > 22 ? 22 : scale < 0 ? -scale : scale;
    double power = 1;
    for (int i = 0; i < step; i++) power *= 10;
    digits = scale < 0 ? digits / power : digits * power;
    scale += scale < 0 ? step : -step;
  }
  *number = is_negative ? -digits : digits;
  return true;
}

bool ks_json_integer(ks_json value, int64_t *integer) {
  const char *at = value.start;
  if (!at || !(*at == '-' || is_digit(*at))) return false;
  int64_t found = 0;
  for (at += *value.start == '-'; at < value.end; at++) {
    if (!is_digit(*at)) return false;
    found = found < INT64_MAX / 10 ? found * 10 + (*at - '0') : INT64_MAX;
  }
  *integer = *value.start == '-' ? -found : found;
  return true;
}
