/* Continues a prompt with a .tflite of keras_seq and prints the same text as `keras-seq sample`.
 *
 * It needs LiteRT's C library, zlib and cJSON. The file contains the vocabulary, and its signature `sample` samples each
 * token, so only the random stream (threefry, uniform) and the tokenizer (encode) are reimplemented here. An app on a
 * phone needs the loop of write_text; BUILD.md says how to build it there.
 */
#include <cjson/cJSON.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

/* The C interface of libLiteRt 2, whose wheel contains no headers. Every function except LiteRtDestroy... returns 0 or an
 * error number. */
typedef struct LiteRtObject *Object;
typedef struct { /* LiteRtRankedTensorType: passed from a tensor to its buffer, never read */
  uint64_t opaque[32];
} TensorType;
typedef struct { /* LiteRtEnvOption with an integer */
  int tag, unused, type, unused_too;
  int64_t value;
} EnvironmentOption;
enum { MIN_LOGGER_SEVERITY = 25, AUTO_REGISTER_ACCELERATORS = 24, INTEGER = 2, SILENT = 4, CPU = 1 };

int LiteRtCreateEnvironment(int count, const EnvironmentOption *options, Object *environment);
int LiteRtCreateModelFromFile(Object environment, const char *path, Object *model);
int LiteRtCreateOptions(Object *options);
int LiteRtSetOptionsHardwareAccelerators(Object options, int accelerators);
int LiteRtCreateCompiledModel(Object environment, Object model, Object options, Object *compiled);
int LiteRtGetNumModelSignatures(Object model, size_t *count);
int LiteRtGetModelSignature(Object model, size_t index, Object *signature);
int LiteRtGetSignatureKey(Object signature, const char **name);
int LiteRtGetNumSignatureInputs(Object signature, size_t *count);
int LiteRtGetNumSignatureOutputs(Object signature, size_t *count);
int LiteRtGetSignatureInputName(Object signature, size_t index, const char **name);
int LiteRtGetSignatureOutputName(Object signature, size_t index, const char **name);
int LiteRtGetSignatureInputTensorByIndex(Object signature, size_t index, Object *tensor);
int LiteRtGetSignatureOutputTensorByIndex(Object signature, size_t index, Object *tensor);
int LiteRtGetRankedTensorType(Object tensor, TensorType *type);
int LiteRtGetCompiledModelInputBufferRequirements(Object compiled, size_t signature, size_t index, Object *requirements);
int LiteRtGetCompiledModelOutputBufferRequirements(Object compiled, size_t signature, size_t index, Object *requirements);
int LiteRtCreateManagedTensorBufferFromRequirements(Object environment, const TensorType *type, Object requirements,
                                                    Object *buffer);
int LiteRtGetTensorBufferPackedSize(Object buffer, size_t *bytes);
int LiteRtGetTensorBufferHostMemory(Object buffer, void **address);
int LiteRtRunCompiledModel(Object compiled, size_t signature, size_t input_count, Object *inputs, size_t output_count,
                           Object *outputs);
void LiteRtDestroyTensorBuffer(Object buffer);
void LiteRtDestroyCompiledModel(Object compiled);
void LiteRtDestroyOptions(Object options);
void LiteRtDestroyModel(Object model);
void LiteRtDestroyEnvironment(Object environment);

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

static void *allocate(size_t bytes) {
  void *memory = calloc(bytes ? bytes : 1, 1);
  if (!memory) fail("out of memory: %zu bytes", bytes);
  return memory;
}

/* ---- the random stream: Threefry-2x32-20, Salmon et al. 2011 ---- */

static uint32_t threefry(uint64_t seed, uint32_t position) {
  static const int rotations[] = {13, 15, 26, 6, 17, 29, 16, 24};
  uint32_t key[3] = {(uint32_t)seed, (uint32_t)(seed >> 32), 0};
  key[2] = key[0] ^ key[1] ^ 0x1BD11BDAu;
  uint32_t x0 = position + key[0], x1 = key[1];
  for (uint32_t number = 0; number < 20; number++) {
    int rotation = rotations[number % 8];
    x0 += x1;
    x1 = ((x1 << rotation) | (x1 >> (32 - rotation))) ^ x0;
    if (number % 4 == 3) {
      uint32_t injection = number / 4 + 1;
      x0 += key[injection % 3];
      x1 += key[(injection + 1) % 3] + injection;
    }
  }
  return x0;
}

static float uniform(uint64_t seed, uint32_t position) { return (float)(threefry(seed, position) >> 8) * 0x1p-24f; }

/* ---- SHA-256, FIPS 180-4 ---- */

static uint32_t rotate_right(uint32_t word, int count) { return word >> count | word << (32 - count); }

static void sha256_block(uint32_t state[8], const uint8_t *block) {
  static const uint32_t constants[64] = {
      0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
      0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
      0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
      0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
      0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
      0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
      0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
  uint32_t words[64], s[8];
  for (int i = 0; i < 16; i++)
    words[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; i++) {
    uint32_t early = words[i - 15], late = words[i - 2];
    words[i] = words[i - 16] + (rotate_right(early, 7) ^ rotate_right(early, 18) ^ early >> 3) + words[i - 7] +
               (rotate_right(late, 17) ^ rotate_right(late, 19) ^ late >> 10);
  }
  memcpy(s, state, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]), majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
    uint32_t first = s[7] + (rotate_right(s[4], 6) ^ rotate_right(s[4], 11) ^ rotate_right(s[4], 25)) + choice + constants[i] + words[i];
    uint32_t second = (rotate_right(s[0], 2) ^ rotate_right(s[0], 13) ^ rotate_right(s[0], 22)) + majority;
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += first;
    s[0] = first + second;
  }
  for (int i = 0; i < 8; i++) state[i] += s[i];
}

static void sha256(const uint8_t *data, size_t size, char hexadecimal[65]) {
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  size_t whole = size / 64 * 64, rest = size - whole, padded = rest < 56 ? 64 : 128;
  uint8_t end[128] = {0};
  for (size_t start = 0; start < whole; start += 64) sha256_block(state, data + start);
  memcpy(end, data + whole, rest);
  end[rest] = 0x80;
  for (size_t i = 0; i < 8; i++) end[padded - 1 - i] = (uint8_t)((uint64_t)size * 8 >> 8 * i);
  for (size_t start = 0; start < padded; start += 64) sha256_block(state, end + start);
  for (int i = 0; i < 8; i++) snprintf(hexadecimal + 8 * i, 9, "%08" PRIx32, state[i]);
}

/* ---- the zip at the end of the file ---- */

typedef struct {
  uint8_t *data;
  size_t size;
} Bytes;

static Bytes read_file(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) fail("%s cannot be read: %s", path, strerror(errno));
  Bytes content = {NULL, 0};
  for (size_t room = 0, got = 1; got; content.size += got) {
    if (room == content.size) {
      room = room ? 2 * room : 1 << 20;
      if (!(content.data = realloc(content.data, room))) fail("out of memory for %s", path);
    }
    got = fread(content.data + content.size, 1, room - content.size, file);
  }
  if (ferror(file)) fail("%s cannot be read: %s", path, strerror(errno));
  fclose(file);
  if (content.size < 8 || memcmp(content.data + 4, "TFL3", 4)) fail("%s is not a .tflite file: it must have TFL3 at byte 4", path);
  return content;
}

static uint32_t little_endian(const uint8_t *data, int bytes) {
  uint32_t number = 0;
  while (bytes--) number = number << 8 | data[bytes];
  return number;
}

/* Unpacks the entry at a local file header; returns false if it exceeds the file or its CRC-32 is wrong. */
static bool unpack(Bytes file, size_t header, int method, size_t packed_size, uint32_t checksum, Bytes *content) {
  if (file.size < 30 || header > file.size - 30 || memcmp(file.data + header, "PK\3\4", 4)) return false;
  size_t start = header + 30 + little_endian(file.data + header + 26, 2) + little_endian(file.data + header + 28, 2);
  if (start > file.size || packed_size > file.size - start) return false;
  if (method == 0 && packed_size == content->size) {
    memcpy(content->data, file.data + start, packed_size);
  } else if (method == 8) {
    z_stream stream = {.next_in = file.data + start,
                       .avail_in = (uInt)packed_size,
                       .next_out = content->data,
                       .avail_out = (uInt)content->size};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
    bool complete = inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.avail_out == 0;
    inflateEnd(&stream);
    if (!complete) return false;
  } else {
    return false;
  }
  return crc32(0, content->data, (uInt)content->size) == checksum;
}

/* Returns a file from the zip that is appended to the .tflite, followed by a zero byte. */
static Bytes read_part(Bytes file, const char *path, const char *name) {
  enum { END = 22, ENTRY = 46, LARGEST = 16 << 20 };
  const char *damaged = "%s has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export";
  size_t end = file.size < END ? 0 : file.size - END;
  if (file.size < END || memcmp(file.data + end, "PK\5\6", 4)) fail(damaged, path);
  size_t length = little_endian(file.data + end + 12, 4);
  if (length > end) fail(damaged, path);
  size_t entry = end - length; /* the central directory stands right before this record */
  if (little_endian(file.data + end + 16, 4) > entry) fail(damaged, path);
  size_t offset = entry - little_endian(file.data + end + 16, 4);
  while (entry + ENTRY <= end && !memcmp(file.data + entry, "PK\1\2", 4)) {
    const uint8_t *fields = file.data + entry;
    size_t name_size = little_endian(fields + 28, 2);
    size_t next = entry + ENTRY + name_size + little_endian(fields + 30, 2) + little_endian(fields + 32, 2);
    if (next > end) break;
    if (name_size == strlen(name) && !memcmp(fields + ENTRY, name, name_size)) {
      Bytes content = {NULL, little_endian(fields + 24, 4)};
      if (content.size > LARGEST) fail("%s has a %s of %zu bytes, more than the %d allowed", path, name, content.size, LARGEST);
      content.data = allocate(content.size + 1);
      if (!unpack(file, offset + little_endian(fields + 42, 4), (int)little_endian(fields + 10, 2),
                  little_endian(fields + 20, 4), little_endian(fields + 16, 4), &content))
        fail(damaged, path);
      return content;
    }
    entry = next;
  }
  fail("%s has no %s inside: export a model of text with keras-seq export", path, name);
}

/* ---- the vocabulary ---- */

typedef struct {
  const char *text;
  int size, id;
} Token;

typedef enum { CHARACTERS, WORDS, WHITE_SPACE } Level; /* as in keras_seq/data/tokens.py */

typedef struct {
  Token *by_id, *by_text; /* all tokens, sorted by id; those that are not reserved, sorted by text */
  int count, text_count;
  int pad, start, eos, unknown; /* ids of the reserved tokens; -1 if there is none */
  Level level;
  char *content;
} Vocabulary;

static int compare_bytes(const void *left, const void *right) {
  const Token *a = left, *b = right;
  int order = memcmp(a->text, b->text, (size_t)(a->size < b->size ? a->size : b->size));
  return order ? order : a->size - b->size;
}

/* Replaces the escapes \n, \r and \x5c in place; returns the new size, or -1 if there is another escape. */
static int unescape(char *text, int size) {
  int written = 0;
  for (int i = 0; i < size; i++) {
    if (text[i] != '\\') {
      text[written++] = text[i];
    } else if (i + 1 < size && (text[i + 1] == 'n' || text[i + 1] == 'r')) {
      text[written++] = text[++i] == 'n' ? '\n' : '\r';
    } else if (i + 3 < size && !memcmp(text + i + 1, "x5c", 3)) {
      text[written++] = '\\';
      i += 3;
    } else {
      return -1;
    }
  }
  return written;
}

static bool is_token(const Vocabulary *vocabulary, int id, const char *text) {
  Token wanted = {text, (int)strlen(text), 0};
  return id < vocabulary->count && !compare_bytes(&wanted, &vocabulary->by_id[id]);
}

static int id_of(const Vocabulary *vocabulary, const char *text) {
  for (int id = 0; id < vocabulary->count; id++)
    if (is_token(vocabulary, id, text)) return id;
  return -1;
}

static bool is_reserved(const Vocabulary *vocabulary, int id) {
  return id == vocabulary->pad || id == vocabulary->start || id == vocabulary->eos || id == vocabulary->unknown;
}

/* Returns the size of the first character of a valid UTF-8 text. */
static int first_size(const Token *token) {
  int size = 1;
  while (size < token->size && ((uint8_t)token->text[size] & 0xC0) == 0x80) size++;
  return size;
}

/* Returns what a token is; the list of tokens alone decides it. */
static Level level_of(const Vocabulary *vocabulary) {
  static const char *const words[] = {"<pad>", "<unk>", "<s>", "<eos>"}, *const characters[] = {"<pad>", "<s>", "<eos>"};
  int same = 0;
  while (same < 4 && is_token(vocabulary, same, words[same])) same++;
  if (same == 4) return WORDS;
  for (same = 0; same < 3 && is_token(vocabulary, same, characters[same]);) same++;
  if (same == 3) return CHARACTERS;
  for (int id = 0; id < vocabulary->count; id++)
    if (!is_reserved(vocabulary, id) && first_size(&vocabulary->by_id[id]) != vocabulary->by_id[id].size) return WHITE_SPACE;
  return CHARACTERS;
}

static Vocabulary read_vocabulary(Bytes file, const char *path) {
  enum { MOST_TOKENS = 1 << 19 };
  Bytes content = read_part(file, path, "vocab.txt");
  if (!content.size || content.data[content.size - 1] != '\n') fail("%s has a damaged vocabulary: it is truncated", path);
  Vocabulary vocabulary = {.content = (char *)content.data};
  for (size_t i = 0; i < content.size; i++) vocabulary.count += content.data[i] == '\n';
  if (vocabulary.count < 4 || vocabulary.count > MOST_TOKENS)
    fail("%s has a damaged vocabulary: it has %d tokens", path, vocabulary.count);
  vocabulary.by_id = allocate(sizeof(Token) * (size_t)vocabulary.count);
  vocabulary.by_text = allocate(sizeof(Token) * (size_t)vocabulary.count);
  char *line = vocabulary.content;
  for (int id = 0; id < vocabulary.count; id++) {
    char *end = memchr(line, '\n', content.size - (size_t)(line - vocabulary.content));
    int size = unescape(line, (int)(end - line));
    if (size < 0) fail("%s has a damaged vocabulary: line %d", path, id + 1);
    vocabulary.by_id[id] = (Token){line, size, id};
    line = end + 1;
  }
  vocabulary.pad = id_of(&vocabulary, "<pad>");
  vocabulary.start = id_of(&vocabulary, "<s>");
  vocabulary.eos = id_of(&vocabulary, "<eos>");
  vocabulary.unknown = id_of(&vocabulary, "[UNK]");
  if (vocabulary.unknown < 0) vocabulary.unknown = id_of(&vocabulary, "<unk>");
  if (vocabulary.start < 0 || vocabulary.eos < 0) fail("%s has a damaged vocabulary: it has no <s> or <eos>", path);
  vocabulary.level = level_of(&vocabulary);
  /* Reserved tokens are never found in text: a text "<eos>" is not the token. */
  for (int id = 0; id < vocabulary.count; id++)
    if (!is_reserved(&vocabulary, id)) vocabulary.by_text[vocabulary.text_count++] = vocabulary.by_id[id];
  qsort(vocabulary.by_text, (size_t)vocabulary.text_count, sizeof(Token), compare_bytes);
  return vocabulary;
}

/* Returns the id of a token that a text can have; that of the unknown token if it is not in the vocabulary; or -1. */
static int find(const Vocabulary *vocabulary, const char *text, int size) {
  Token wanted = {text, size, 0};
  Token *found = bsearch(&wanted, vocabulary->by_text, (size_t)vocabulary->text_count, sizeof(Token), compare_bytes);
  if (found) return found->id;
  /* Split at white space, a text can have a word that is spelled like a reserved token. It is not that token. */
  const int silent[] = {vocabulary->pad, vocabulary->start, vocabulary->eos};
  for (size_t i = 0; vocabulary->level == WHITE_SPACE && i < sizeof silent / sizeof *silent; i++)
    if (silent[i] >= 0 && !compare_bytes(&wanted, &vocabulary->by_id[silent[i]])) return -1;
  return vocabulary->unknown;
}

/* ---- the tokenizer ---- */

/* Decodes the UTF-8 character at `text`, which ends with a zero; returns its size in bytes, or 0 if it is not valid. */
static int character(const char *text, uint32_t *found) {
  const uint8_t *bytes = (const uint8_t *)text;
  int size = bytes[0] < 0x80 ? 1 : bytes[0] < 0xC2 ? 0 : bytes[0] < 0xE0 ? 2 : bytes[0] < 0xF0 ? 3 : bytes[0] < 0xF5 ? 4 : 0;
  static const uint8_t first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  *found = bytes[0] & first_bits[size];
  for (int i = 1; i < size; i++) {
    if ((bytes[i] & 0xC0) != 0x80) return 0;
    *found = *found << 6 | (bytes[i] & 0x3F);
  }
  bool is_invalid = (size == 3 && *found < 0x800) || (size == 4 && (*found < 0x10000 || *found > 0x10FFFF));
  return is_invalid || (*found >= 0xD800 && *found <= 0xDFFF) ? 0 : size;
}

typedef enum { WORD, SPACE, PUNCTUATION, SINGLE, NOTHING } Class; /* as in keras_seq/data/tokens.py */

static Class class_of(uint32_t c) {
  typedef struct {
    uint32_t first, last;
    Class class;
  } Range;
  static const Range ranges[] = {
      {0x09, 0x0D, SPACE}, {0x1C, 0x20, SPACE}, {0x21, 0x2F, PUNCTUATION}, {0x3A, 0x40, PUNCTUATION},
      {0x5B, 0x60, PUNCTUATION}, {0x7B, 0x7E, PUNCTUATION}, {0x85, 0x85, SPACE}, {0xA0, 0xA0, SPACE},
      {0xA1, 0xA9, PUNCTUATION}, {0xAB, 0xAC, PUNCTUATION}, {0xAE, 0xB1, PUNCTUATION}, {0xB4, 0xB4, PUNCTUATION},
      {0xB6, 0xB8, PUNCTUATION}, {0xBB, 0xBB, PUNCTUATION}, {0xBF, 0xBF, PUNCTUATION}, {0xD7, 0xD7, PUNCTUATION},
      {0xF7, 0xF7, PUNCTUATION}, {0x37E, 0x37E, PUNCTUATION}, {0x387, 0x387, PUNCTUATION},
      {0x55A, 0x55F, PUNCTUATION}, {0x589, 0x58A, PUNCTUATION}, {0x5BE, 0x5BE, PUNCTUATION},
      {0x5C0, 0x5C0, PUNCTUATION}, {0x5C3, 0x5C3, PUNCTUATION}, {0x5C6, 0x5C6, PUNCTUATION},
      {0x5F3, 0x5F4, PUNCTUATION}, {0x60C, 0x60C, PUNCTUATION}, {0x61B, 0x61B, PUNCTUATION},
      {0x61E, 0x61F, PUNCTUATION}, {0x66A, 0x66D, PUNCTUATION}, {0x6D4, 0x6D4, PUNCTUATION},
      {0x964, 0x965, PUNCTUATION}, {0x970, 0x970, PUNCTUATION}, {0xE01, 0xEFF, SINGLE}, {0x1000, 0x109F, SINGLE},
      {0x1361, 0x1368, PUNCTUATION}, {0x1680, 0x1680, SPACE}, {0x1780, 0x17FF, SINGLE}, {0x2000, 0x200A, SPACE},
      {0x2010, 0x2027, PUNCTUATION}, {0x2028, 0x2029, SPACE}, {0x202F, 0x202F, SPACE}, {0x2030, 0x205E, PUNCTUATION},
      {0x205F, 0x205F, SPACE}, {0x20A0, 0x20CF, PUNCTUATION}, {0x2100, 0x214F, PUNCTUATION},
      {0x2190, 0x2BFF, PUNCTUATION}, {0x2E00, 0x2E7F, PUNCTUATION}, {0x2E80, 0x2FFF, SINGLE}, {0x3000, 0x3000, SPACE},
      {0x3001, 0x3004, PUNCTUATION}, {0x3005, 0x3007, SINGLE}, {0x3008, 0x3020, PUNCTUATION},
      {0x3021, 0x302F, SINGLE}, {0x3030, 0x3030, PUNCTUATION}, {0x3031, 0x312F, SINGLE}, {0x3190, 0x4DBF, SINGLE},
      {0x4E00, 0x9FFF, SINGLE}, {0xF900, 0xFAFF, SINGLE}, {0xFE10, 0xFE1F, PUNCTUATION}, {0xFE30, 0xFE6F, PUNCTUATION},
      {0xFF01, 0xFF0F, PUNCTUATION}, {0xFF1A, 0xFF20, PUNCTUATION}, {0xFF3B, 0xFF40, PUNCTUATION},
      {0xFF5B, 0xFF65, PUNCTUATION}, {0xFF66, 0xFF9F, SINGLE}, {0xFFE0, 0xFFEE, PUNCTUATION},
      {0x1AFF0, 0x1B16F, SINGLE}, {0x1F000, 0x1FAFF, PUNCTUATION}, {0x20000, 0x3FFFF, SINGLE},
  };
  for (size_t index = 0; index < sizeof ranges / sizeof *ranges; index++)
    if (c >= ranges[index].first && c <= ranges[index].last) return ranges[index].class;
  return WORD;
}

/* Returns the class of the character at `text`, and its size; NOTHING at the end. */
static Class class_at(const char *text, int *size) {
  uint32_t c;
  *size = *text ? character(text, &c) : 0;
  return *size ? class_of(c) : NOTHING;
}

static bool is_apostrophe(const char *text) { return *text == '\'' || !strncmp(text, "\xE2\x80\x99", 3); }

static int word_length(const char *text) {
  int size, total = 0;
  while (class_at(text + total, &size) == WORD) total += size;
  return total;
}

/* Returns the size in bytes of the word token at `text`; it implements WORD_PATTERN of keras_seq/data/tokens.py. */
static int word_token(const char *text) {
  int size, space = *text == ' ';
  Class class = class_at(text + space, &size);
  if (class == PUNCTUATION || class == SINGLE) return space + size;
  if (class != WORD) return space ? 1 : size; /* white space */
  int total = space + word_length(text + space);
  for (;;) {
    int apostrophe, more;
    class_at(text + total, &apostrophe);
    if (!apostrophe || !is_apostrophe(text + total) || !(more = word_length(text + total + apostrophe))) return total;
    total += apostrophe + more;
  }
}

static const char WHITE[] = "\t\n\v\f\r ";

/* Returns the size in bytes of the token at `text`; 0 if it is white space between two tokens. */
static int token_size(Level level, const char *text) {
  uint32_t ignored;
  return level == WORDS ? word_token(text) : level == CHARACTERS ? character(text, &ignored) : (int)strcspn(text, WHITE);
}

/* Writes the ids of a UTF-8 text to `ids`, which has room for one per byte; returns their number. */
static int encode(const Vocabulary *vocabulary, const char *text, int32_t *ids) {
  int count = 0;
  uint32_t ignored;
  for (const char *next = text; *next; next += character(next, &ignored))
    if (!character(next, &ignored)) fail("--prompt must be UTF-8; byte %d is not", (int)(next - text));
  for (int size; *text; text += size) {
    size = token_size(vocabulary->level, text);
    if (!size) { /* white space between two words */
      size = 1;
      continue;
    }
    int id = find(vocabulary, text, size);
    uint32_t foreign;
    if (id < 0 && vocabulary->level != CHARACTERS) fail("--prompt must hold only words of the vocabulary. Received: '%.*s'", size, text);
    if (id < 0) {
      character(text, &foreign);
      fail("--prompt must hold only characters of the vocabulary. Received: '%.*s' (U+%04" PRIX32 ")", size, text, foreign);
    }
    ids[count++] = id;
  }
  return count;
}

/* ---- the model ---- */

enum { MOST = 64 }; /* largest number of inputs or outputs of a signature */

typedef struct {
  size_t index, input_count, output_count;
  const char *input_names[MOST], *output_names[MOST];
  Object inputs[MOST], outputs[MOST];
} Signature;

typedef struct {
  const char *path;
  Object environment, model, options, compiled;
  Signature prefill, sample, start;
  bool has_start; /* otherwise the states begin at zero */
} Model;

static void check(int status, const Model *model, const char *action) {
  if (status) fail("%s cannot be %s: LiteRT error %d", model->path, action, status);
}

static Object new_buffer(const Model *model, Object tensor, Object requirements) {
  TensorType type;
  Object buffer;
  check(LiteRtGetRankedTensorType(tensor, &type), model, "loaded");
  check(LiteRtCreateManagedTensorBufferFromRequirements(model->environment, &type, requirements, &buffer), model, "loaded");
  return buffer;
}

/* Returns the signature with a name, and its index; NULL if the file has no such signature. */
static Object find_signature(const Model *model, const char *name, size_t *index) {
  size_t count;
  const char *key = NULL;
  Object found = NULL;
  check(LiteRtGetNumModelSignatures(model->model, &count), model, "loaded");
  for (*index = 0; *index < count; ++*index) {
    check(LiteRtGetModelSignature(model->model, *index, &found), model, "loaded");
    check(LiteRtGetSignatureKey(found, &key), model, "loaded");
    if (!strcmp(key, name)) return found;
  }
  return NULL;
}

/* Finds a signature by name and creates a buffer for each input and output, whose order differs between runtimes. Returns
 * false if the file has no such signature. */
static bool load_signature(const Model *model, const char *name, Signature *signature) {
  Object tensor, requirements, found = find_signature(model, name, &signature->index);
  if (!found) return false;
  check(LiteRtGetNumSignatureInputs(found, &signature->input_count), model, "loaded");
  check(LiteRtGetNumSignatureOutputs(found, &signature->output_count), model, "loaded");
  if (signature->input_count > MOST || signature->output_count > MOST) fail("%s has too many states", model->path);
  for (size_t i = 0; i < signature->input_count; i++) {
    check(LiteRtGetSignatureInputName(found, i, &signature->input_names[i]), model, "loaded");
    check(LiteRtGetSignatureInputTensorByIndex(found, i, &tensor), model, "loaded");
    check(LiteRtGetCompiledModelInputBufferRequirements(model->compiled, signature->index, i, &requirements), model, "loaded");
    signature->inputs[i] = new_buffer(model, tensor, requirements);
  }
  for (size_t i = 0; i < signature->output_count; i++) {
    check(LiteRtGetSignatureOutputName(found, i, &signature->output_names[i]), model, "loaded");
    check(LiteRtGetSignatureOutputTensorByIndex(found, i, &tensor), model, "loaded");
    check(LiteRtGetCompiledModelOutputBufferRequirements(model->compiled, signature->index, i, &requirements), model, "loaded");
    signature->outputs[i] = new_buffer(model, tensor, requirements);
  }
  return true;
}

static void unload_signature(Signature *signature) {
  for (size_t i = 0; i < signature->input_count; i++) LiteRtDestroyTensorBuffer(signature->inputs[i]);
  for (size_t i = 0; i < signature->output_count; i++) LiteRtDestroyTensorBuffer(signature->outputs[i]);
}

static Model load_model(const char *path) {
  Model model = {.path = path};
  const EnvironmentOption options[] = {{MIN_LOGGER_SEVERITY, 0, INTEGER, 0, SILENT},
                                       {AUTO_REGISTER_ACCELERATORS, 0, INTEGER, 0, CPU}};
  check(LiteRtCreateEnvironment(2, options, &model.environment), &model, "loaded");
  check(LiteRtCreateModelFromFile(model.environment, path, &model.model), &model, "loaded");
  check(LiteRtCreateOptions(&model.options), &model, "loaded");
  check(LiteRtSetOptionsHardwareAccelerators(model.options, CPU), &model, "loaded");
  /* The runtime reports its delegate on stderr; no option turns this off. */
  int saved_stderr = dup(2), null = open("/dev/null", O_WRONLY);
  dup2(null, 2);
  int status = LiteRtCreateCompiledModel(model.environment, model.model, model.options, &model.compiled);
  dup2(saved_stderr, 2);
  close(saved_stderr);
  close(null);
  check(status, &model, "loaded");
  if (!load_signature(&model, "prefill", &model.prefill) || !load_signature(&model, "sample", &model.sample))
    fail("%s must have the signatures prefill and sample: export it with keras-seq export", path);
  model.has_start = load_signature(&model, "start", &model.start);
  size_t index;
  if (find_signature(&model, "encode", &index)) fail("%s begins with the states of an encoder, which this program cannot run", path);
  return model;
}

static void unload_model(Model *model) {
  unload_signature(&model->prefill);
  unload_signature(&model->sample);
  if (model->has_start) unload_signature(&model->start);
  LiteRtDestroyCompiledModel(model->compiled);
  LiteRtDestroyOptions(model->options);
  LiteRtDestroyModel(model->model);
  LiteRtDestroyEnvironment(model->environment);
}

static Object *find_buffer(const Model *model, const char *const *names, Object *buffers, size_t count, const char *name) {
  for (size_t i = 0; i < count; i++)
    if (!strcmp(names[i], name)) return &buffers[i];
  fail("%s has no input or output %s: export it with keras-seq export", model->path, name);
}

static Object *input(const Model *model, Signature *signature, const char *name) {
  return find_buffer(model, signature->input_names, signature->inputs, signature->input_count, name);
}

static Object *output(const Model *model, Signature *signature, const char *name) {
  return find_buffer(model, signature->output_names, signature->outputs, signature->output_count, name);
}

/* Returns the address of the values of a buffer; on the CPU it does not change. */
static void *values_of(const Model *model, Object buffer, size_t bytes) {
  void *address;
  size_t size;
  check(LiteRtGetTensorBufferPackedSize(buffer, &size), model, "run");
  if (size != bytes) fail("%s must take one row of text: export it without --batch", model->path);
  check(LiteRtGetTensorBufferHostMemory(buffer, &address), model, "run");
  return address;
}

static void run(const Model *model, Signature *signature) {
  check(LiteRtRunCompiledModel(model->compiled, signature->index, signature->input_count, signature->inputs,
                               signature->output_count, signature->outputs),
        model, "run");
}

static bool is_state(const char *name) { return !strncmp(name, "state_", 6); }

/* Requires the outputs of one signature to have all input states of another, in the same size: their buffers are exchanged. */
static void require_states(const Model *model, Signature *from, Signature *to) {
  for (size_t i = 0; i < to->input_count; i++) {
    if (!is_state(to->input_names[i])) continue;
    Object *state = output(model, from, to->input_names[i]);
    size_t given, taken;
    check(LiteRtGetTensorBufferPackedSize(*state, &given), model, "loaded");
    check(LiteRtGetTensorBufferPackedSize(to->inputs[i], &taken), model, "loaded");
    if (given != taken) fail("%s has a damaged model: %s has %zu and %zu bytes", model->path, to->input_names[i], given, taken);
  }
}

/* Requires the inputs and outputs of a sampled text before it is written, and that every signature returns the states that
 * the next one takes: otherwise it would go on from those of another step. */
static void require_signatures(Model *model) {
  static const char *const inputs[] = {"token", "uniform", "temperature", "top_k", "top_p", "min_p"};
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++) input(model, &model->sample, inputs[i]);
  input(model, &model->prefill, "tokens");
  input(model, &model->prefill, "length");
  output(model, &model->sample, "next_token");
  output(model, &model->sample, "log_probability");
  Signature *next[] = {&model->prefill, &model->sample};
  for (size_t i = 0; i < sizeof next / sizeof *next; i++) {
    require_states(model, &model->prefill, next[i]);
    require_states(model, &model->sample, next[i]);
    if (model->has_start) require_states(model, &model->start, next[i]);
  }
}

/* Sets the input states of a signature to zero. */
static void clear_states(const Model *model, Signature *signature) {
  for (size_t i = 0; i < signature->input_count; i++) {
    if (!is_state(signature->input_names[i])) continue;
    size_t size;
    check(LiteRtGetTensorBufferPackedSize(signature->inputs[i], &size), model, "run");
    memset(values_of(model, signature->inputs[i], size), 0, size);
  }
}

/* Makes the output states of one signature the input states of another, by exchanging buffers instead of copying. */
static void pass_states(const Model *model, Signature *from, Signature *to) {
  for (size_t i = 0; i < from->output_count; i++) {
    if (!is_state(from->output_names[i])) continue;
    Object *state = input(model, to, from->output_names[i]), buffer = *state;
    *state = from->outputs[i];
    from->outputs[i] = buffer;
  }
}

/* Sets the input states of a signature to those at the start of a text. */
static void start_states(Model *model, Signature *signature) {
  if (!model->has_start) {
    clear_states(model, signature);
    return;
  }
  run(model, &model->start);
  pass_states(model, &model->start, signature);
}

/* ---- text ---- */

typedef struct {
  const char *prompt;
  int32_t max_tokens, top_k;
  float temperature, top_p, min_p;
  uint64_t seed;
  bool has_seed, time;
} Request;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Reads all tokens except the last; the states after them become the inputs of `sample`. */
static void read_prompt(Model *model, const int32_t *tokens, int count) {
  enum { STEPS = 64 };
  Signature *prefill = &model->prefill;
  int32_t *chunk = values_of(model, *input(model, prefill, "tokens"), sizeof(int32_t) * STEPS);
  int32_t *length = values_of(model, *input(model, prefill, "length"), sizeof *length);
  start_states(model, count > 1 ? prefill : &model->sample);
  for (int start = 0; start < count - 1; start += STEPS) {
    *length = count - 1 - start < STEPS ? count - 1 - start : STEPS;
    memset(chunk, 0, sizeof(int32_t) * STEPS);
    memcpy(chunk, tokens + start, sizeof(int32_t) * (size_t)*length);
    run(model, prefill);
    pass_states(model, prefill, start + STEPS < count - 1 ? prefill : &model->sample);
  }
}

/* Returns whether a text ends with white space, or is empty. */
static bool ends_with_white_space(const char *text) { return !*text || strchr(WHITE, text[strlen(text) - 1]); }

/* Prints a prompt and its continuation, token by token. */
static void write_text(Model *model, const Vocabulary *vocabulary, const Request *request) {
  int32_t *tokens = allocate(sizeof(int32_t) * (strlen(request->prompt) + 1));
  tokens[0] = vocabulary->start;
  int count = 1 + encode(vocabulary, request->prompt, tokens + 1), unknown = 0, written = 0;
  for (int i = 1; i < count; i++) unknown += tokens[i] == vocabulary->unknown;
  if (!request->has_seed) fprintf(stderr, "keras_seq: --seed=%" PRIu64 "\n", request->seed);
  if (unknown) fprintf(stderr, "keras_seq: %d of %d tokens of the prompt are read as %.*s\n", unknown, count - 1,
            vocabulary->by_id[vocabulary->unknown].size, vocabulary->by_id[vocabulary->unknown].text);
  fputs(request->prompt, stdout);
  fflush(stdout);

  Signature *sample = &model->sample;
  read_prompt(model, tokens, count);
  *(float *)values_of(model, *input(model, sample, "temperature"), sizeof(float)) = request->temperature;
  *(int32_t *)values_of(model, *input(model, sample, "top_k"), sizeof(int32_t)) = request->top_k;
  *(float *)values_of(model, *input(model, sample, "top_p"), sizeof(float)) = request->top_p;
  *(float *)values_of(model, *input(model, sample, "min_p"), sizeof(float)) = request->min_p;
  int32_t *token = values_of(model, *input(model, sample, "token"), sizeof *token);
  float *number = values_of(model, *input(model, sample, "uniform"), sizeof *number);
  const int32_t *next_token = values_of(model, *output(model, sample, "next_token"), sizeof *next_token);
  const float *log_probability = values_of(model, *output(model, sample, "log_probability"), sizeof *log_probability);
  *token = tokens[count - 1];
  free(tokens);
  double start_time = seconds(), model_time = 0;
  for (int32_t position = 0; position < request->max_tokens; position++) {
    *number = uniform(request->seed, (uint32_t)position);
    double before = seconds();
    run(model, sample);
    model_time += seconds() - before;
    written++;
    if (!isfinite(*log_probability))
      fail("token %d cannot be sampled: the model's logits are not finite", position);
    *token = *next_token;
    if (*token < 0 || *token >= vocabulary->count) fail("%s returns token %d of %d", model->path, *token, vocabulary->count);
    if (*token == vocabulary->eos) break;
    if (!is_reserved(vocabulary, *token) || *token == vocabulary->unknown) {
      if (vocabulary->level == WHITE_SPACE && (position || !ends_with_white_space(request->prompt))) putchar(' ');
      fwrite(vocabulary->by_id[*token].text, 1, (size_t)vocabulary->by_id[*token].size, stdout);
      if (fflush(stdout)) fail("the text cannot be written: %s", strerror(errno));
    }
    pass_states(model, sample, sample);
  }
  double total_time = seconds() - start_time;
  putchar('\n');
  if (fflush(stdout)) fail("the text cannot be written: %s", strerror(errno));
  if (request->time)
    fprintf(stderr, "keras_seq: %d tokens, %.1f us per token, of which %.1f us in the model (ratio %.2f)\n", written,
            total_time / written * 1e6, model_time / written * 1e6, total_time / model_time);
}

/* ---- flags ---- */

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

/* Verifies the configuration and the model of the file, and takes the sampling settings stored in it. */
static void read_config(Bytes file, const char *path, Request *request) {
  enum { FORMAT = 2 };
  Bytes content = read_part(file, path, "config.json");
  cJSON *config = cJSON_Parse((const char *)content.data), *sampling = cJSON_GetObjectItem(config, "sampling");
  const cJSON *state = cJSON_GetObjectItem(config, "state"), *batch = cJSON_GetObjectItem(config, "batch");
  const cJSON *format = cJSON_GetObjectItem(config, "format");
  if (!cJSON_IsNumber(format) || format->valueint != FORMAT)
    fail("%s must have the bundle format %d: export it again, or update this program", path, FORMAT);
  if (!cJSON_IsString(state) || !cJSON_IsNumber(batch) || !cJSON_IsObject(sampling)) fail("%s has a damaged config.json", path);
  if (strcmp(state->valuestring, "explicit")) fail("%s has internal states: export it with --state=explicit", path);
  if (batch->valueint != 1) fail("%s takes %d rows at once: export it without --batch", path, batch->valueint);
  const cJSON *bytes = cJSON_GetObjectItem(config, "model_bytes"), *sum = cJSON_GetObjectItem(config, "model_sha256");
  char found[65];
  if (!cJSON_IsNumber(bytes) || !cJSON_IsString(sum) || !(bytes->valuedouble >= 0 && bytes->valuedouble <= (double)file.size))
    fail("%s has a damaged config.json", path);
  sha256(file.data, (size_t)bytes->valuedouble, found);
  /* A flipped bit in a weight would load and produce nonsense without an error. */
  if (strcmp(found, sum->valuestring)) fail("%s has a damaged model: the SHA-256 differs; export it again", path);
  const struct {
    const char *name;
    float *value, most;
  } settings[] = {{"temperature", &request->temperature, 1e6f}, {"top_p", &request->top_p, 1}, {"min_p", &request->min_p, 1}};
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    const cJSON *stored = cJSON_GetObjectItem(sampling, settings[i].name);
    if (!cJSON_IsNumber(stored)) continue;
    *settings[i].value = (float)stored->valuedouble;
    if (!(*settings[i].value >= 0 && *settings[i].value <= settings[i].most)) fail("%s has a damaged config.json", path);
  }
  const cJSON *top_k = cJSON_GetObjectItem(sampling, "top_k"), *penalty = cJSON_GetObjectItem(sampling, "repetition_penalty");
  if (cJSON_IsNumber(top_k)) request->top_k = top_k->valueint;
  if (cJSON_IsNumber(penalty) && penalty->valuedouble != 1)
    fail("%s was exported with a repetition_penalty, which its signature sample does not support", path);
  cJSON_Delete(config);
  free(content.data);
}

static const char HELP[] =
    "keras_seq MODEL.tflite [--prompt=TEXT] [--max_tokens=200] [--temperature=1] [--top_k=0] [--top_p=1] [--min_p=0] [--seed=N] "
    "[--time]\n"
    "Prints the prompt and a continuation, the same as `keras-seq sample --model=MODEL.tflite` with these flags.\n"
    "--temperature=0 takes the most likely token; --top_k=0, --top_p=1 and --min_p=0 are off.\n"
    "--time reports the time per token, and the part of it spent in the model.\n";

/* Returns what follows `--NAME=`, or NULL if the argument is not this flag. */
static const char *value_of(const char *argument, const char *flag) {
  size_t size = strlen(flag);
  return !strncmp(argument, flag, size) && argument[size] == '=' ? argument + size + 1 : NULL;
}

static void read_flags(int count, char **arguments, Request *request) {
  for (int i = 2; i < count; i++) {
    const char *argument = arguments[i], *value;
    if ((value = value_of(argument, "--prompt"))) {
      request->prompt = value;
    } else if ((value = value_of(argument, "--max_tokens"))) {
      request->max_tokens = (int32_t)integer("--max_tokens", value, 1, INT32_MAX);
    } else if ((value = value_of(argument, "--temperature"))) {
      request->temperature = (float)real_number("--temperature", value, 0, 1e6);
    } else if ((value = value_of(argument, "--top_k"))) {
      request->top_k = (int32_t)integer("--top_k", value, 0, INT32_MAX);
    } else if ((value = value_of(argument, "--top_p"))) {
      request->top_p = (float)real_number("--top_p", value, 1e-30, 1);
    } else if ((value = value_of(argument, "--min_p"))) {
      request->min_p = (float)real_number("--min_p", value, 0, 1);
    } else if ((value = value_of(argument, "--seed"))) {
      request->seed = seed_number(value);
      request->has_seed = true;
    } else if (!strcmp(argument, "--time")) {
      request->time = true;
    } else if (*argument != '-') {
      fail("only flags may follow the file. Received: %s", argument);
    } else if (strstr(HELP, argument) && argument[2]) {
      fail("%s needs a value after =, such as --prompt=TEXT", argument);
    } else {
      fail("there is no flag %s; --help lists them", argument);
    }
  }
}

int main(int count, char **arguments) {
  for (int i = 1; i < count; i++) {
    if (strcmp(arguments[i], "--help") && strcmp(arguments[i], "-h")) continue;
    fputs(HELP, stdout);
    return 0;
  }
  if (count < 2 || *arguments[1] == '-') fail("the first argument must be the model's file: keras_seq MODEL.tflite --prompt=TEXT");
  const char *path = arguments[1];
  Request request = {.prompt = "", .max_tokens = 200, .temperature = 1, .top_p = 1};
  Bytes file = read_file(path);
  read_config(file, path, &request);
  read_flags(count, arguments, &request);
  if (!request.has_seed) {
    if (getentropy(&request.seed, sizeof request.seed)) fail("the system gives no random seed: set --seed");
    request.seed >>= 1;
  }
  Vocabulary vocabulary = read_vocabulary(file, path);
  free(file.data);
  if (request.top_k > vocabulary.count) request.top_k = vocabulary.count;
  Model model = load_model(path);
  require_signatures(&model);
  write_text(&model, &vocabulary, &request);
  unload_model(&model);
  free(vocabulary.by_id);
  free(vocabulary.by_text);
  free(vocabulary.content);
  return 0;
}
