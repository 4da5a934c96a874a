/* Characters and word tokens, as in keras_seq/data/tokens.py. */
#include "tokens.h"

size_t ks_character(const char *text, const char *end, uint32_t *found) {
  if (text >= end) return 0;
  const uint8_t *bytes = (const uint8_t *)text;
  size_t size = bytes[0] < 0x80 ? 1 : bytes[0] < 0xC2 ? 0 : bytes[0] < 0xE0 ? 2 : bytes[0] < 0xF0 ? 3 : bytes[0] < 0xF5 ? 4 : 0;
  if (!size || (size_t)(end - text) < size) return 0;
  static const uint8_t first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  *found = bytes[0] & first_bits[size];
  for (size_t i = 1; i < size; i++) {
    if ((bytes[i] & 0xC0) != 0x80) return 0;
    *found = *found << 6 | (bytes[i] & 0x3F);
  }
  bool is_invalid = (size == 3 && *found < 0x800) || (size == 4 && (*found < 0x10000 || *found > 0x10FFFF));
  return is_invalid || (*found >= 0xD800 && *found <= 0xDFFF) ? 0 : size;
}

size_t ks_valid_size(const char *text, size_t size) {
  size_t valid = 0, next;
  uint32_t ignored;
  while ((next = ks_character(text + valid, text + size, &ignored))) valid += next;
  return valid;
}

ks_class ks_class_of(uint32_t c) {
  typedef struct {
    uint32_t first, last;
    ks_class class;
  } Range;
  static const Range ranges[] = {
      {0x09, 0x0D, KS_SPACE}, {0x1C, 0x20, KS_SPACE}, {0x21, 0x2F, KS_PUNCTUATION}, {0x3A, 0x40, KS_PUNCTUATION},
      {0x5B, 0x60, KS_PUNCTUATION}, {0x7B, 0x7E, KS_PUNCTUATION}, {0x85, 0x85, KS_SPACE}, {0xA0, 0xA0, KS_SPACE},
      {0xA1, 0xA9, KS_PUNCTUATION}, {0xAB, 0xAC, KS_PUNCTUATION}, {0xAE, 0xB1, KS_PUNCTUATION}, {0xB4, 0xB4, KS_PUNCTUATION},
      {0xB6, 0xB8, KS_PUNCTUATION}, {0xBB, 0xBB, KS_PUNCTUATION}, {0xBF, 0xBF, KS_PUNCTUATION}, {0xD7, 0xD7, KS_PUNCTUATION},
      {0xF7, 0xF7, KS_PUNCTUATION}, {0x37E, 0x37E, KS_PUNCTUATION}, {0x387, 0x387, KS_PUNCTUATION},
      {0x55A, 0x55F, KS_PUNCTUATION}, {0x589, 0x58A, KS_PUNCTUATION}, {0x5BE, 0x5BE, KS_PUNCTUATION},
      {0x5C0, 0x5C0, KS_PUNCTUATION}, {0x5C3, 0x5C3, KS_PUNCTUATION}, {0x5C6, 0x5C6, KS_PUNCTUATION},
      {0x5F3, 0x5F4, KS_PUNCTUATION}, {0x60C, 0x60C, KS_PUNCTUATION}, {0x61B, 0x61B, KS_PUNCTUATION},
      {0x61E, 0x61F, KS_PUNCTUATION}, {0x66A, 0x66D, KS_PUNCTUATION}, {0x6D4, 0x6D4, KS_PUNCTUATION},
      {0x964, 0x965, KS_PUNCTUATION}, {0x970, 0x970, KS_PUNCTUATION}, {0xE01, 0xEFF, KS_SINGLE}, {0x1000, 0x109F, KS_SINGLE},
      {0x1361, 0x1368, KS_PUNCTUATION}, {0x1680, 0x1680, KS_SPACE}, {0x1780, 0x17FF, KS_SINGLE}, {0x2000, 0x200A, KS_SPACE},
      {0x2010, 0x2027, KS_PUNCTUATION}, {0x2028, 0x2029, KS_SPACE}, {0x202F, 0x202F, KS_SPACE},
      {0x2030, 0x205E, KS_PUNCTUATION}, {0x205F, 0x205F, KS_SPACE}, {0x20A0, 0x20CF, KS_PUNCTUATION},
      {0x2100, 0x214F, KS_PUNCTUATION}, {0x2190, 0x2BFF, KS_PUNCTUATION}, {0x2E00, 0x2E7F, KS_PUNCTUATION},
      {0x2E80, 0x2FFF, KS_SINGLE}, {0x3000, 0x3000, KS_SPACE}, {0x3001, 0x3004, KS_PUNCTUATION}, {0x3005, 0x3007, KS_SINGLE},
      {0x3008, 0x3020, KS_PUNCTUATION}, {0x3021, 0x302F, KS_SINGLE}, {0x3030, 0x3030, KS_PUNCTUATION},
      {0x3031, 0x312F, KS_SINGLE}, {0x3190, 0x4DBF, KS_SINGLE}, {0x4E00, 0x9FFF, KS_SINGLE}, {0xF900, 0xFAFF, KS_SINGLE},
      {0xFE10, 0xFE1F, KS_PUNCTUATION}, {0xFE30, 0xFE6F, KS_PUNCTUATION}, {0xFF01, 0xFF0F, KS_PUNCTUATION},
      {0xFF1A, 0xFF20, KS_PUNCTUATION}, {0xFF3B, 0xFF40, KS_PUNCTUATION}, {0xFF5B, 0xFF65, KS_PUNCTUATION},
      {0xFF66, 0xFF9F, KS_SINGLE}, {0xFFE0, 0xFFEE, KS_PUNCTUATION}, {0x1AFF0, 0x1B16F, KS_SINGLE},
      {0x1F000, 0x1FAFF, KS_PUNCTUATION}, {0x20000, 0x3FFFF, KS_SINGLE},
  };
  for (size_t index = 0; index < sizeof ranges / sizeof *ranges; index++)
    if (c >= ranges[index].first && c <= ranges[index].last) return ranges[index].class;
  return KS_WORD;
}

/* Returns the class of the character at `text`, and its size; KS_NOTHING at the end, or if it is not valid. */
ks_class ks_class_at(const char *text, const char *end, size_t *size) {
  uint32_t found;
  *size = ks_character(text, end, &found);
  return *size ? ks_class_of(found) : KS_NOTHING;
}

bool ks_is_apostrophe(uint32_t character) { return character == '\'' || character == 0x2019; }

bool ks_is_white(char byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static size_t word_length(const char *text, const char *end) {
  size_t size, total = 0;
  while (ks_class_at(text + total, end, &size) == KS_WORD) total += size;
  return total;
}

/* Returns the size in bytes of the word token at `text`; it implements WORD_PATTERN of keras_seq/data/tokens.py. */
static size_t word_token(const char *text, const char *end) {
  size_t size, space = text < end && *text == ' ';
  ks_class class = ks_class_at(text + space, end, &size);
  if (class == KS_PUNCTUATION || class == KS_SINGLE) return space + size;
  if (class != KS_WORD) return space ? 1 : size; /* white space */
  size_t total = space + word_length(text + space, end);
  for (;;) {
    uint32_t joint = 0;
    size_t apostrophe = ks_character(text + total, end, &joint), more = 0;
    if (apostrophe && ks_is_apostrophe(joint)) more = word_length(text + total + apostrophe, end);
    if (!more) return total;
    total += apostrophe + more;
  }
}

size_t ks_token_size(ks_level level, const char *text, const char *end) {
  uint32_t ignored;
  if (level == KS_WORDS) return word_token(text, end);
  if (level == KS_CHARACTERS) return ks_character(text, end, &ignored);
  size_t size = 0;
  while (text + size < end && !ks_is_white(text[size])) size++;
  return size;
}

int ks_order(const char *left, size_t left_size, const char *right, size_t right_size) {
  for (size_t i = 0; i < left_size && i < right_size; i++)
    if (left[i] != right[i]) return (uint8_t)left[i] < (uint8_t)right[i] ? -1 : 1;
  return (left_size > right_size) - (left_size < right_size);
}
