/* Writes text with a .tflite of keras_seq: prompt and flags in, text out, the same as `keras-seq sample` writes.
 *
 * All it needs is LiteRT's C library, zlib and cJSON. The file has the vocabulary inside and draws by its own signature
 * `sample`, so that only the random stream (threefry, uniform) and the tokenizer (encode) are written again here. The
 * loop of a phone's app is that of write_text; BUILD.md says how it gets there.
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

/* LiteRT's C interface, as libLiteRt 2 has it; its wheel brings no headers. Every function but LiteRtDestroy... gives 0,
 * or the number of an error. */
typedef struct LiteRtObject *Object;
typedef struct { /* LiteRtRankedTensorType: passed on from a tensor to its buffer, and never looked into */
  uint64_t opaque[32];
} TensorType;
typedef struct { /* LiteRtEnvOption with a whole number */
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

/* Ends the program with one sentence. */
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
  if (!memory) fail("there is no memory for %zu bytes", bytes);
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

static uint32_t turned(uint32_t word, int places) { return word >> places | word << (32 - places); }

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
    words[i] = words[i - 16] + (turned(early, 7) ^ turned(early, 18) ^ early >> 3) + words[i - 7] +
               (turned(late, 17) ^ turned(late, 19) ^ late >> 10);
  }
  memcpy(s, state, sizeof s);
  for (int i = 0; i < 64; i++) {
    uint32_t choice = (s[4] & s[5]) ^ (~s[4] & s[6]), majority = (s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]);
    uint32_t first = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) + choice + constants[i] + words[i];
    uint32_t second = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) + majority;
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
      if (!(content.data = realloc(content.data, room))) fail("there is no memory for %s", path);
    }
    got = fread(content.data + content.size, 1, room - content.size, file);
  }
  if (ferror(file)) fail("%s cannot be read: %s", path, strerror(errno));
  fclose(file);
  if (content.size < 8 || memcmp(content.data + 4, "TFL3", 4)) fail("%s is not a .tflite file: it must have TFL3 at byte 4", path);
  return content;
}

static uint32_t little_endian(const uint8_t *place, int bytes) {
  uint32_t number = 0;
  while (bytes--) number = number << 8 | place[bytes];
  return number;
}

/* Inflates what a local file header is before; false where it does not end within the file or its sum is another. */
static bool unpack(Bytes file, size_t header, int method, size_t packed, uint32_t sum, Bytes *content) {
  if (file.size < 30 || header > file.size - 30 || memcmp(file.data + header, "PK\3\4", 4)) return false;
  size_t start = header + 30 + little_endian(file.data + header + 26, 2) + little_endian(file.data + header + 28, 2);
  if (start > file.size || packed > file.size - start) return false;
  if (method == 0 && packed == content->size) {
    memcpy(content->data, file.data + start, packed);
  } else if (method == 8) {
    z_stream stream = {.next_in = file.data + start,
                       .avail_in = (uInt)packed,
                       .next_out = content->data,
                       .avail_out = (uInt)content->size};
    if (inflateInit2(&stream, -MAX_WBITS) != Z_OK) return false;
    bool whole = inflate(&stream, Z_FINISH) == Z_STREAM_END && stream.avail_out == 0;
    inflateEnd(&stream);
    if (!whole) return false;
  } else {
    return false;
  }
  return crc32(0, content->data, (uInt)content->size) == sum;
}

/* Returns a file of the zip that is appended to the .tflite, with a zero after its end. */
static Bytes read_part(Bytes file, const char *path, const char *name) {
  enum { END = 22, ENTRY = 46, LARGEST = 64 << 20 };
  const char *damaged = "%s has no whole bundle at its end: it is cut off or damaged, or was not made by keras-seq export";
  size_t end = file.size < END ? 0 : file.size - END;
  if (file.size < END || memcmp(file.data + end, "PK\5\6", 4)) fail(damaged, path);
  size_t length = little_endian(file.data + end + 12, 4);
  if (length > end) fail(damaged, path);
  size_t entry = end - length; /* the directory stands right before its end */
  if (little_endian(file.data + end + 16, 4) > entry) fail(damaged, path);
  size_t offset = entry - little_endian(file.data + end + 16, 4);
  while (entry + ENTRY <= end && !memcmp(file.data + entry, "PK\1\2", 4)) {
    const uint8_t *fields = file.data + entry;
    size_t name_size = little_endian(fields + 28, 2);
    size_t next = entry + ENTRY + name_size + little_endian(fields + 30, 2) + little_endian(fields + 32, 2);
    if (next > end) break;
    if (name_size == strlen(name) && !memcmp(fields + ENTRY, name, name_size)) {
      Bytes content = {NULL, little_endian(fields + 24, 4)};
      if (content.size > LARGEST) fail("%s holds a %s of %zu bytes, more than the %d allowed", path, name, content.size, LARGEST);
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

typedef struct {
  Token *by_id, *by_text; /* the same tokens in two orders */
  int count, reserved;    /* reserved: <pad> <s> <eos>, or with words <pad> <unk> <s> <eos> */
  char *content;
} Vocabulary;

static int by_bytes(const void *left, const void *right) {
  const Token *a = left, *b = right;
  int order = memcmp(a->text, b->text, (size_t)(a->size < b->size ? a->size : b->size));
  return order ? order : a->size - b->size;
}

/* Undoes \n, \r and \x5c in place; returns the size after it, or -1 where a backslash begins nothing of these. */
static int unescape(char *text, int size) {
  int written = 0;
  for (int place = 0; place < size; place++) {
    if (text[place] != '\\') {
      text[written++] = text[place];
    } else if (place + 1 < size && (text[place + 1] == 'n' || text[place + 1] == 'r')) {
      text[written++] = text[++place] == 'n' ? '\n' : '\r';
    } else if (place + 3 < size && !memcmp(text + place + 1, "x5c", 3)) {
      text[written++] = '\\';
      place += 3;
    } else {
      return -1;
    }
  }
  return written;
}

static Vocabulary read_vocabulary(Bytes file, const char *path) {
  enum { MOST_TOKENS = 1 << 20 };
  Bytes content = read_part(file, path, "vocab.txt");
  if (!content.size || content.data[content.size - 1] != '\n') fail("%s holds a damaged vocabulary: it is cut short", path);
  Vocabulary vocabulary = {.content = (char *)content.data};
  for (size_t place = 0; place < content.size; place++) vocabulary.count += content.data[place] == '\n';
  if (vocabulary.count < 4 || vocabulary.count > MOST_TOKENS)
    fail("%s holds a damaged vocabulary: it has %d tokens", path, vocabulary.count);
  vocabulary.by_id = allocate(sizeof(Token) * (size_t)vocabulary.count);
  vocabulary.by_text = allocate(sizeof(Token) * (size_t)vocabulary.count);
  char *line = vocabulary.content;
  for (int id = 0; id < vocabulary.count; id++) {
    char *end = memchr(line, '\n', content.size - (size_t)(line - vocabulary.content));
    int size = unescape(line, (int)(end - line));
    if (size < 0) fail("%s holds a damaged vocabulary: line %d", path, id + 1);
    vocabulary.by_id[id] = vocabulary.by_text[id] = (Token){line, size, id};
    line = end + 1;
  }
  vocabulary.reserved = vocabulary.by_id[1].size == 5 && !memcmp(vocabulary.by_id[1].text, "<unk>", 5) ? 4 : 3;
  /* Reserved tokens are no text: a text "<eos>" is not the token. */
  qsort(vocabulary.by_text + vocabulary.reserved, (size_t)(vocabulary.count - vocabulary.reserved), sizeof(Token), by_bytes);
  return vocabulary;
}

static bool has_words(const Vocabulary *vocabulary) { return vocabulary->reserved == 4; }

/* Returns the id of a token of the text, or -1. */
static int find(const Vocabulary *vocabulary, const char *text, int size) {
  Token wanted = {text, size, 0};
  Token *found = bsearch(&wanted, vocabulary->by_text + vocabulary->reserved,
                         (size_t)(vocabulary->count - vocabulary->reserved), sizeof(Token), by_bytes);
  return found ? found->id : -1;
}

/* ---- the tokenizer ---- */

/* Returns the bytes of the UTF-8 character at `text`, which ends with a zero, and the character; 0 where it is none. */
static int character(const char *text, uint32_t *found) {
  const uint8_t *bytes = (const uint8_t *)text;
  int size = bytes[0] < 0x80 ? 1 : bytes[0] < 0xC2 ? 0 : bytes[0] < 0xE0 ? 2 : bytes[0] < 0xF0 ? 3 : bytes[0] < 0xF5 ? 4 : 0;
  static const uint8_t first_bits[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
  *found = bytes[0] & first_bits[size];
  for (int place = 1; place < size; place++) {
    if ((bytes[place] & 0xC0) != 0x80) return 0;
    *found = *found << 6 | (bytes[place] & 0x3F);
  }
  bool is_long = (size == 3 && *found < 0x800) || (size == 4 && (*found < 0x10000 || *found > 0x10FFFF));
  return is_long || (*found >= 0xD800 && *found <= 0xDFFF) ? 0 : size;
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

/* Returns the class of the character at `text` and its size; NOTHING at the end. */
static Class class_at(const char *text, int *size) {
  uint32_t c;
  *size = *text ? character(text, &c) : 0;
  return *size ? class_of(c) : NOTHING;
}

static bool is_apostrophe(const char *text) { return *text == '\'' || !strncmp(text, "\xE2\x80\x99", 3); }

static int run_of_word(const char *text) {
  int size, total = 0;
  while (class_at(text + total, &size) == WORD) total += size;
  return total;
}

/* Returns the bytes of the word token at `text`: WORD_PATTERN of keras_seq/data/tokens.py, by hand. */
static int word_token(const char *text) {
  int size, before = *text == ' ';
  Class class = class_at(text + before, &size);
  if (class == PUNCTUATION || class == SINGLE) return before + size;
  if (class != WORD) return before ? 1 : size; /* white space, by itself */
  int total = before + run_of_word(text + before);
  for (;;) {
    int apostrophe, more;
    class_at(text + total, &apostrophe);
    if (!apostrophe || !is_apostrophe(text + total) || !(more = run_of_word(text + total + apostrophe))) return total;
    total += apostrophe + more;
  }
}

/* Writes the ids of a text, which must be UTF-8, to `ids`, that has room for its bytes; returns their number. */
static int encode(const Vocabulary *vocabulary, const char *text, int32_t *ids) {
  int count = 0;
  uint32_t ignored;
  for (const char *place = text; *place; place += character(place, &ignored))
    if (!character(place, &ignored)) fail("`prompt` must be UTF-8, and is not from byte %d on", (int)(place - text));
  while (*text) {
    int size = has_words(vocabulary) ? word_token(text) : character(text, &ignored);
    int id = find(vocabulary, text, size);
    if (id < 0 && !has_words(vocabulary)) {
      uint32_t foreign;
      character(text, &foreign);
      fail("`prompt` must hold only characters of the vocabulary. Received: '%.*s' (U+%04" PRIX32 ")", size, text, foreign);
    }
    ids[count++] = id < 0 ? 1 : id; /* 1 is <unk> */
    text += size;
  }
  return count;
}

/* ---- the model ---- */

enum { MOST = 64 }; /* inputs or outputs of a signature */

typedef struct {
  size_t index, input_count, output_count;
  const char *input_names[MOST], *output_names[MOST];
  Object inputs[MOST], outputs[MOST];
} Signature;

typedef struct {
  const char *path;
  Object environment, model, options, compiled;
  Signature prefill, sample;
} Model;

static void check(int status, const Model *model, const char *what) {
  if (status) fail("%s cannot be %s: LiteRT's error %d", model->path, what, status);
}

static Object new_buffer(const Model *model, Object tensor, Object requirements) {
  TensorType type;
  Object buffer;
  check(LiteRtGetRankedTensorType(tensor, &type), model, "loaded");
  check(LiteRtCreateManagedTensorBufferFromRequirements(model->environment, &type, requirements, &buffer), model, "loaded");
  return buffer;
}

/* Finds a signature by name and makes a buffer for each of its inputs and outputs, whose order differs by runtime. */
static void load_signature(const Model *model, const char *name, Signature *signature) {
  size_t count;
  const char *key = NULL;
  Object found = NULL, tensor, needs;
  check(LiteRtGetNumModelSignatures(model->model, &count), model, "loaded");
  for (signature->index = 0; signature->index < count; signature->index++) {
    check(LiteRtGetModelSignature(model->model, signature->index, &found), model, "loaded");
    check(LiteRtGetSignatureKey(found, &key), model, "loaded");
    if (!strcmp(key, name)) break;
  }
  if (signature->index == count) fail("%s has no signature %s: export it with keras-seq export", model->path, name);
  check(LiteRtGetNumSignatureInputs(found, &signature->input_count), model, "loaded");
  check(LiteRtGetNumSignatureOutputs(found, &signature->output_count), model, "loaded");
  if (signature->input_count > MOST || signature->output_count > MOST) fail("%s has too many states", model->path);
  for (size_t i = 0; i < signature->input_count; i++) {
    check(LiteRtGetSignatureInputName(found, i, &signature->input_names[i]), model, "loaded");
    check(LiteRtGetSignatureInputTensorByIndex(found, i, &tensor), model, "loaded");
    check(LiteRtGetCompiledModelInputBufferRequirements(model->compiled, signature->index, i, &needs), model, "loaded");
    signature->inputs[i] = new_buffer(model, tensor, needs);
  }
  for (size_t i = 0; i < signature->output_count; i++) {
    check(LiteRtGetSignatureOutputName(found, i, &signature->output_names[i]), model, "loaded");
    check(LiteRtGetSignatureOutputTensorByIndex(found, i, &tensor), model, "loaded");
    check(LiteRtGetCompiledModelOutputBufferRequirements(model->compiled, signature->index, i, &needs), model, "loaded");
    signature->outputs[i] = new_buffer(model, tensor, needs);
  }
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
  /* The runtime tells on stderr that it has made its delegate, and no setting of its own silences it. */
  int told = dup(2), silence = open("/dev/null", O_WRONLY);
  dup2(silence, 2);
  int status = LiteRtCreateCompiledModel(model.environment, model.model, model.options, &model.compiled);
  dup2(told, 2);
  close(told);
  close(silence);
  check(status, &model, "loaded");
  load_signature(&model, "prefill", &model.prefill);
  load_signature(&model, "sample", &model.sample);
  return model;
}

static void unload_model(Model *model) {
  unload_signature(&model->prefill);
  unload_signature(&model->sample);
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

/* Returns where the values of a buffer are; on the CPU they stay there. */
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

static void clear_states(const Model *model, Signature *signature) {
  for (size_t i = 0; i < signature->input_count; i++) {
    if (!is_state(signature->input_names[i])) continue;
    size_t size;
    check(LiteRtGetTensorBufferPackedSize(signature->inputs[i], &size), model, "run");
    memset(values_of(model, signature->inputs[i], size), 0, size);
  }
}

/* Makes the states that came out of one signature those that go into another, by changing buffers, not by copying. */
static void pass_states(const Model *model, Signature *from, Signature *to) {
  for (size_t i = 0; i < from->output_count; i++) {
    if (!is_state(from->output_names[i])) continue;
    Object *place = input(model, to, from->output_names[i]), buffer = *place;
    *place = from->outputs[i];
    from->outputs[i] = buffer;
  }
}

/* ---- text ---- */

typedef struct {
  const char *prompt;
  int32_t max_tokens, top_k;
  float temperature, top_p, min_p;
  uint64_t seed;
  bool has_seed, time;
} Wanted;

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Reads all tokens but the last; the states after them are then the inputs of `sample`. */
static void read_prompt(Model *model, const int32_t *tokens, int count) {
  enum { STEPS = 64 };
  Signature *prefill = &model->prefill;
  int32_t *read = values_of(model, *input(model, prefill, "tokens"), sizeof(int32_t) * STEPS);
  int32_t *length = values_of(model, *input(model, prefill, "length"), sizeof *length);
  clear_states(model, count > 1 ? prefill : &model->sample);
  for (int start = 0; start < count - 1; start += STEPS) {
    *length = count - 1 - start < STEPS ? count - 1 - start : STEPS;
    memset(read, 0, sizeof(int32_t) * STEPS);
    memcpy(read, tokens + start, sizeof(int32_t) * (size_t)*length);
    run(model, prefill);
    pass_states(model, prefill, start + STEPS < count - 1 ? prefill : &model->sample);
  }
}

/* Writes the continuation of a prompt, token by token. */
static void write_text(Model *model, const Vocabulary *vocabulary, const Wanted *wanted) {
  int32_t *tokens = allocate(sizeof(int32_t) * (strlen(wanted->prompt) + 1));
  const int start = vocabulary->reserved - 2, eos = vocabulary->reserved - 1;
  tokens[0] = start;
  int count = 1 + encode(vocabulary, wanted->prompt, tokens + 1), unknown = 0, written = 0;
  for (int i = 1; i < count; i++) unknown += has_words(vocabulary) && tokens[i] == 1;
  if (!wanted->has_seed) fprintf(stderr, "keras_seq: --seed=%" PRIu64 "\n", wanted->seed);
  if (unknown) fprintf(stderr, "keras_seq: %d of %d tokens of the prompt are read as <unk>\n", unknown, count - 1);
  fputs(wanted->prompt, stdout);
  fflush(stdout);

  Signature *sample = &model->sample;
  read_prompt(model, tokens, count);
  *(float *)values_of(model, *input(model, sample, "temperature"), sizeof(float)) = wanted->temperature;
  *(int32_t *)values_of(model, *input(model, sample, "top_k"), sizeof(int32_t)) = wanted->top_k;
  *(float *)values_of(model, *input(model, sample, "top_p"), sizeof(float)) = wanted->top_p;
  *(float *)values_of(model, *input(model, sample, "min_p"), sizeof(float)) = wanted->min_p;
  int32_t *token = values_of(model, *input(model, sample, "token"), sizeof *token);
  float *number = values_of(model, *input(model, sample, "uniform"), sizeof *number);
  const int32_t *next_token = values_of(model, *output(model, sample, "next_token"), sizeof *next_token);
  const float *log_probability = values_of(model, *output(model, sample, "log_probability"), sizeof *log_probability);
  *token = tokens[count - 1];
  free(tokens);
  double began = seconds(), inside = 0;
  for (int32_t position = 0; position < wanted->max_tokens; position++) {
    *number = uniform(wanted->seed, (uint32_t)position);
    double before = seconds();
    run(model, sample);
    inside += seconds() - before;
    written++;
    if (!isfinite(*log_probability))
      fail("token %d cannot be drawn: the model's logits must be numbers; these are not", position);
    *token = *next_token;
    if (*token < 0 || *token >= vocabulary->count) fail("%s draws token %d of %d", model->path, *token, vocabulary->count);
    if (*token == eos) break;
    if (*token >= vocabulary->reserved || (has_words(vocabulary) && *token == 1)) {
      fwrite(vocabulary->by_id[*token].text, 1, (size_t)vocabulary->by_id[*token].size, stdout);
      if (fflush(stdout)) fail("the text cannot be written: %s", strerror(errno));
    }
    pass_states(model, sample, sample);
  }
  double whole = seconds() - began;
  putchar('\n');
  if (fflush(stdout)) fail("the text cannot be written: %s", strerror(errno));
  if (wanted->time)
    fprintf(stderr, "keras_seq: %d tokens, %.1f us each, %.1f of them in the model: %.2f times its calls alone\n", written,
            whole / written * 1e6, inside / written * 1e6, whole / inside);
}

/* ---- flags ---- */

static double real_number(const char *flag, const char *text, double least, double most) {
  char *end;
  double value = strtod(text, &end);
  if (!*text || *end || !(value >= least && value <= most)) fail("%s must be a number from %g to %g. Received: %s", flag, least, most, text);
  return value;
}

static int64_t whole_number(const char *flag, const char *text, int64_t least, int64_t most) {
  char *end;
  errno = 0;
  long long value = strtoll(text, &end, 10);
  if (!*text || *end || errno || value < least || value > most)
    fail("%s must be a whole number from %" PRId64 " to %" PRId64 ". Received: %s", flag, least, most, text);
  return value;
}

static uint64_t seed_number(const char *text) {
  char *end;
  errno = 0;
  uint64_t value = *text == '-' ? (uint64_t)strtoll(text, &end, 10) : (uint64_t)strtoull(text, &end, 10);
  if (!*text || *end || errno) fail("--seed must be a 64-bit integer. Received: %s", text);
  return value;
}

/* Checks what the file says of itself, and takes the settings that it was exported with. */
static void read_config(Bytes file, const char *path, Wanted *wanted) {
  Bytes content = read_part(file, path, "config.json");
  cJSON *config = cJSON_Parse((const char *)content.data), *sampling = cJSON_GetObjectItem(config, "sampling");
  const cJSON *state = cJSON_GetObjectItem(config, "state"), *batch = cJSON_GetObjectItem(config, "batch");
  if (!cJSON_IsString(state) || !cJSON_IsNumber(batch) || !cJSON_IsObject(sampling)) fail("%s holds a damaged config.json", path);
  if (strcmp(state->valuestring, "explicit")) fail("%s keeps its states inside: export it with --state=explicit", path);
  if (batch->valueint != 1) fail("%s takes %d rows at once: export it without --batch", path, batch->valueint);
  const cJSON *bytes = cJSON_GetObjectItem(config, "model_bytes"), *sum = cJSON_GetObjectItem(config, "model_sha256");
  char found[65];
  if (!cJSON_IsNumber(bytes) || !cJSON_IsString(sum) || !(bytes->valuedouble >= 0 && bytes->valuedouble <= (double)file.size))
    fail("%s holds a damaged config.json", path);
  sha256(file.data, (size_t)bytes->valuedouble, found);
  /* A flipped bit in a weight would load, and write nonsense without an error. */
  if (strcmp(found, sum->valuestring)) fail("%s holds a model that is damaged: the SHA-256 differs; export it again", path);
  const struct {
    const char *name;
    float *value, most;
  } settings[] = {{"temperature", &wanted->temperature, 1e6f}, {"top_p", &wanted->top_p, 1}, {"min_p", &wanted->min_p, 1}};
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    const cJSON *stored = cJSON_GetObjectItem(sampling, settings[i].name);
    if (!cJSON_IsNumber(stored)) continue;
    *settings[i].value = (float)stored->valuedouble;
    if (!(*settings[i].value >= 0 && *settings[i].value <= settings[i].most)) fail("%s holds a damaged config.json", path);
  }
  const cJSON *top_k = cJSON_GetObjectItem(sampling, "top_k"), *penalty = cJSON_GetObjectItem(sampling, "repetition_penalty");
  if (cJSON_IsNumber(top_k)) wanted->top_k = top_k->valueint;
  if (cJSON_IsNumber(penalty) && penalty->valuedouble != 1)
    fail("%s was exported with a repetition_penalty, which its own draw does not know", path);
  cJSON_Delete(config);
  free(content.data);
}

static const char HELP[] =
    "keras_seq MODEL.tflite [--prompt=TEXT] [--max_tokens=200] [--temperature=1] [--top_k=0] [--top_p=1] [--min_p=0] [--seed=N] "
    "[--time]\n"
    "Writes the prompt and a continuation, the same as `keras-seq sample --model=MODEL.tflite` with these flags.\n"
    "--temperature=0 takes the likeliest token; --top_k=0, --top_p=1 and --min_p=0 are off.\n"
    "--time tells at the end how long a token took, and how much of it the model.\n";

/* Returns what follows `--NAME=` where the argument is that flag. */
static const char *value_of(const char *argument, const char *flag) {
  size_t size = strlen(flag);
  return !strncmp(argument, flag, size) && argument[size] == '=' ? argument + size + 1 : NULL;
}

static void read_flags(int count, char **arguments, Wanted *wanted) {
  for (int i = 2; i < count; i++) {
    const char *argument = arguments[i], *value;
    if ((value = value_of(argument, "--prompt"))) {
      wanted->prompt = value;
    } else if ((value = value_of(argument, "--max_tokens"))) {
      wanted->max_tokens = (int32_t)whole_number("--max_tokens", value, 1, INT32_MAX);
    } else if ((value = value_of(argument, "--temperature"))) {
      wanted->temperature = (float)real_number("--temperature", value, 0, 1e6);
    } else if ((value = value_of(argument, "--top_k"))) {
      wanted->top_k = (int32_t)whole_number("--top_k", value, 0, INT32_MAX);
    } else if ((value = value_of(argument, "--top_p"))) {
      wanted->top_p = (float)real_number("--top_p", value, 1e-30, 1);
    } else if ((value = value_of(argument, "--min_p"))) {
      wanted->min_p = (float)real_number("--min_p", value, 0, 1);
    } else if ((value = value_of(argument, "--seed"))) {
      wanted->seed = seed_number(value);
      wanted->has_seed = true;
    } else if (!strcmp(argument, "--time")) {
      wanted->time = true;
    } else if (*argument != '-') {
      fail("after the file come flags. Received: %s", argument);
    } else if (strstr(HELP, argument) && argument[2]) {
      fail("%s needs its value behind =, such as --prompt=TEXT", argument);
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
  if (count < 2 || *arguments[1] == '-') fail("the model's file comes first: keras_seq MODEL.tflite --prompt=TEXT");
  const char *path = arguments[1];
  Wanted wanted = {.prompt = "", .max_tokens = 200, .temperature = 1, .top_p = 1};
  Bytes file = read_file(path);
  read_config(file, path, &wanted);
  read_flags(count, arguments, &wanted);
  if (!wanted.has_seed) {
    if (getentropy(&wanted.seed, sizeof wanted.seed)) fail("there is no random seed: give one as --seed");
    wanted.seed >>= 1;
  }
  Vocabulary vocabulary = read_vocabulary(file, path);
  free(file.data);
  if (wanted.top_k > vocabulary.count) wanted.top_k = vocabulary.count;
  Model model = load_model(path);
  write_text(&model, &vocabulary, &wanted);
  unload_model(&model);
  free(vocabulary.by_id);
  free(vocabulary.by_text);
  free(vocabulary.content);
  return 0;
}
