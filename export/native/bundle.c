/* The zip at the end of a .tflite: config.json, vocab.txt and card.json.
 *
 * The rules are stricter than those of a zip reader, so that every runtime accepts the same files (docs/formats.md). */
#include <float.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "internal.h"

enum {
  END = 22, /* bytes of the last record, and of the fixed parts of an entry of the directory and of a local header */
  ENTRY = 46,
  HEADER = 30,
  LARGEST_DIRECTORY = 1 << 16,
  FORMAT = 2
};

static const char DAMAGED[] =
    "%s has no complete bundle at its end: it is truncated, damaged, or was not made by keras-seq export (%s)";

/* The directory of the zip, which was checked, so that its entries can be walked. */
typedef struct {
  const char *name; /* of the file, in messages */
  ks_bytes file;
  size_t start, end;
} Directory;

uint32_t ks_little_endian(const uint8_t *data, int bytes) {
  uint32_t number = 0;
  while (bytes--) number = number << 8 | data[bytes];
  return number;
}

static size_t name_size(const uint8_t *entry) { return ks_little_endian(entry + 28, 2); }

static size_t entry_size(const uint8_t *entry) {
  return ENTRY + name_size(entry) + ks_little_endian(entry + 30, 2) + ks_little_endian(entry + 32, 2);
}

static size_t header_at(const uint8_t *entry) { return ks_little_endian(entry + 42, 4); }

/* Checks the last record of the file; gives where the directory begins, and the number of its entries. */
static ks_status find_directory(Directory *directory, size_t *count, ks_error *error) {
  const ks_bytes file = directory->file;
  if (file.size < END + 8) return ks_fail(error, KS_BAD_FILE, DAMAGED, directory->name, "it is too short");
  size_t end = file.size - END;
  const uint8_t *record = file.data + end;
  if (memcmp(record, "PK\5\6\0\0\0\0", 8) || memcmp(record + 8, record + 10, 2) || ks_little_endian(record + 20, 2))
    return ks_fail(error, KS_BAD_FILE, DAMAGED, directory->name, "its last 22 bytes are not the end of a zip");
  size_t size = ks_little_endian(record + 12, 4), start = ks_little_endian(record + 16, 4);
  if (size > LARGEST_DIRECTORY || size > end || start != end - size)
    return ks_fail(error, KS_BAD_FILE, DAMAGED, directory->name, "its zip has no directory");
  directory->start = start;
  directory->end = end;
  *count = ks_little_endian(record + 8, 2);
  return KS_OK;
}

/* Checks an entry of the directory and its local header. */
static bool is_valid_entry(const Directory *directory, const uint8_t *entry) {
  uint32_t method = ks_little_endian(entry + 10, 2);
  if (ks_little_endian(entry + 8, 2) || (method != 0 && method != 8)) return false;
  uint64_t at = header_at(entry), name = name_size(entry), packed = ks_little_endian(entry + 20, 4);
  if (at + HEADER + name + packed > directory->start) return false;
  const uint8_t *header = directory->file.data + at;
  return !memcmp(header, "PK\3\4", 4) && !memcmp(header + 4, entry + 6, 24) && !ks_little_endian(header + 28, 2) &&
         !memcmp(header + HEADER, entry + ENTRY, name);
}

static bool have_one_name(const uint8_t *left, const uint8_t *right) {
  return name_size(left) == name_size(right) && !memcmp(left + ENTRY, right + ENTRY, name_size(left));
}

/* Checks all entries; gives the offset of the first local header, where the model ends. */
static ks_status check_entries(const Directory *directory, size_t count, size_t *first, ks_error *error) {
  const uint8_t *entries = directory->file.data + directory->start, *end = directory->file.data + directory->end, *entry = entries;
  *first = directory->start;
  for (size_t i = 0; i < count; i++, entry += entry_size(entry)) {
    if (end - entry < ENTRY || memcmp(entry, "PK\1\2", 4) || entry_size(entry) > (size_t)(end - entry))
      return ks_fail(error, KS_BAD_FILE, DAMAGED, directory->name, "its zip's directory is damaged");
    if (!is_valid_entry(directory, entry))
      return ks_fail(error, KS_BAD_FILE, DAMAGED, directory->name, "an entry of its zip differs from its local header");
    for (const uint8_t *other = entries; other < entry; other += entry_size(other))
      if (have_one_name(other, entry))
        return ks_fail(error, KS_BAD_FILE, DAMAGED, directory->name, "two entries of its zip have the same name");
    if (header_at(entry) < *first) *first = header_at(entry);
  }
  if (entry != end) return ks_fail(error, KS_BAD_FILE, DAMAGED, directory->name, "its zip's directory is damaged");
  return KS_OK;
}

static const uint8_t *find_entry(const Directory *directory, const char *name) {
  const uint8_t *entry = directory->file.data + directory->start, *end = directory->file.data + directory->end;
  for (; entry < end; entry += entry_size(entry))
    if (name_size(entry) == strlen(name) && !memcmp(entry + ENTRY, name, strlen(name))) return entry;
  return NULL;
}

static void *allocate_for_zlib(void *unused, unsigned count, unsigned size) {
  (void)unused;
  return calloc(count, size);
}

static void free_for_zlib(void *unused, void *memory) {
  (void)unused;
  free(memory);
}

/* Inflates a part; returns KS_BAD_FILE without a sentence if it does not have exactly the size of `content`. */
static ks_status inflate_part(const uint8_t *packed, size_t packed_size, ks_bytes content, ks_error *error) {
  z_stream stream = {.next_in = (uint8_t *)(uintptr_t)packed,
                     .avail_in = (uInt)packed_size,
                     .next_out = content.data,
                     .avail_out = (uInt)content.size,
                     .zalloc = allocate_for_zlib,
                     .zfree = free_for_zlib};
  int status = inflateInit2(&stream, -MAX_WBITS);
  if (status == Z_MEM_ERROR) return ks_no_memory(error);
  if (status != Z_OK) return KS_BAD_FILE;
  status = inflate(&stream, Z_FINISH);
  bool is_complete = status == Z_STREAM_END && !stream.avail_out && !stream.avail_in;
  inflateEnd(&stream);
  return status == Z_MEM_ERROR ? ks_no_memory(error) : is_complete ? KS_OK : KS_BAD_FILE;
}

/* Unpacks a part; returns KS_BAD_FILE without a sentence if it is damaged. */
static ks_status unpack(const Directory *directory, const uint8_t *entry, ks_bytes content, ks_error *error) {
  const uint8_t *packed = directory->file.data + header_at(entry) + HEADER + name_size(entry);
  size_t packed_size = ks_little_endian(entry + 20, 4);
  if (ks_little_endian(entry + 10, 2) == 8) {
    TRY(inflate_part(packed, packed_size, content, error));
  } else {
    if (packed_size != content.size) return KS_BAD_FILE;
    memcpy(content.data, packed, packed_size);
  }
  return crc32(0, content.data, (uInt)content.size) == ks_little_endian(entry + 16, 4) ? KS_OK : KS_BAD_FILE;
}

/* Gives the content of an entry, for the caller to free. */
static ks_status read_part(const Directory *directory, const char *name, size_t largest, ks_bytes *content, ks_error *error) {
  const uint8_t *entry = find_entry(directory, name);
  if (!entry)
    return ks_fail(error, KS_BAD_FILE, "%s has no %s inside: export a model of text with keras-seq export", directory->name, name);
  ks_bytes found = {NULL, ks_little_endian(entry + 24, 4)};
  if (found.size > largest)
    return ks_fail(error, KS_BAD_FILE, "%s has a %s of %zu bytes, more than the %zu allowed", directory->name, name, found.size,
                   largest);
  if (!(found.data = malloc(found.size + 1))) return ks_no_memory(error);
  ks_status status = unpack(directory, entry, found, error);
  if (status) {
    free(found.data);
    if (status == KS_BAD_FILE)
      return ks_fail(error, status, "%s has no complete bundle at its end: %s is damaged; export it again", directory->name, name);
    return status;
  }
  *content = found;
  return KS_OK;
}

/* ---- config.json ---- */

static ks_status refuse_value(const char *file, const char *name, const char *expected, ks_error *error) {
  return ks_fail(error, KS_BAD_FILE, "%s has a damaged config.json: %s must be %s", file, name, expected);
}

/* Checks what the library can run. */
static ks_status check_kind(const char *file, ks_json config, ks_error *error) {
  int64_t format, batch;
  if (!ks_json_integer(ks_json_member(config, "format"), &format) || format != FORMAT)
    return ks_fail(error, KS_BAD_FILE, "%s must have the bundle format %d: export it again, or update this program", file, FORMAT);
  if (ks_json_equals(ks_json_member(config, "quantization"), "integer"))
    return ks_fail(error, KS_BAD_FILE,
                   "%s has integers only: run it with export/native/micro, TensorFlow Lite for Microcontrollers or LiteRTSampler, "
                   "or export it with --quantization=int8 for this library", file);
  ks_json state = ks_json_member(config, "state");
  if (ks_json_equals(state, "internal"))
    return ks_fail(error, KS_BAD_FILE, "%s has internal states: export it with --state=explicit", file);
  if (!ks_json_equals(state, "explicit")) return refuse_value(file, "state", "\"explicit\" or \"internal\"", error);
  if (!ks_json_integer(ks_json_member(config, "batch"), &batch) || batch < 1 || batch > INT32_MAX)
    return refuse_value(file, "batch", "a positive integer", error);
  if (batch != 1)
    return ks_fail(error, KS_BAD_FILE, "%s takes %" PRId64 " rows at once: export it without --batch", file, batch);
  return KS_OK;
}

static ks_status check_model(const Directory *directory, ks_json config, size_t first, ks_bundle *bundle, ks_error *error) {
  const ks_bytes file = directory->file;
  int64_t bytes;
  char found[65];
  if (!ks_json_integer(ks_json_member(config, "model_bytes"), &bytes) || bytes < 12 || (uint64_t)bytes != first)
    return refuse_value(directory->name, "model_bytes", "the offset at which the zip begins, at least 12", error);
  uint32_t root = ks_little_endian(file.data, 4);
  if (root < 8 || root > (uint64_t)bytes - 4)
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged model: its root is at byte %" PRIu32, directory->name, root);
  ks_sha256(file.data, (size_t)bytes, bundle->model_sha256);
  ks_hexadecimal(bundle->model_sha256, found);
  /* A flipped bit in a weight would load and produce nonsense without an error. */
  if (!ks_json_equals(ks_json_member(config, "model_sha256"), found))
    return ks_fail(error, KS_BAD_FILE, "%s has a damaged model: the SHA-256 differs; export it again", directory->name);
  bundle->model_bytes = (size_t)bytes;
  return KS_OK;
}

/* Gives a number of the sampling settings; leaves it if the file has none. Returns false if it is out of its range. */
static bool read_number(ks_json sampling, const char *name, double least, double most, double *value) {
  ks_json stored = ks_json_member(sampling, name);
  return !stored.start || (ks_json_number(stored, value) && *value >= least && *value <= most);
}

/* Requires settings that the library knows. It does not use the last two, which are inside the model. */
static ks_status check_names(const char *file, ks_json sampling, ks_error *error) {
  static const char *const names[] = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty", "allow_unk", "bias"};
  enum { COUNT = sizeof names / sizeof *names };
  for (ks_json name, value = {NULL, NULL}; ks_json_next(sampling, &name, &value);) {
    size_t i = 0;
    while (i < COUNT && !ks_json_equals(name, names[i])) i++;
    if (i == COUNT) return refuse_value(file, "sampling", "of settings that this library knows", error);
  }
  ks_json allow_unk = ks_json_member(sampling, "allow_unk"), bias = ks_json_member(sampling, "bias");
  if (allow_unk.start && !ks_json_is_boolean(allow_unk)) return refuse_value(file, "allow_unk", "true or false", error);
  if (bias.start && !ks_json_is_object(bias)) return refuse_value(file, "bias", "an object of numbers", error);
  double number;
  for (ks_json name, value = {NULL, NULL}; bias.start && ks_json_next(bias, &name, &value);)
    if (!ks_json_number(value, &number)) return refuse_value(file, "bias", "an object of numbers", error);
  return KS_OK;
}

/* Takes the sampling settings stored in the file. */
static ks_status read_settings(const char *file, ks_json config, ks_options *options, ks_error *error) {
  ks_json sampling = ks_json_member(config, "sampling");
  if (!ks_json_is_object(sampling)) return refuse_value(file, "sampling", "an object", error);
  TRY(check_names(file, sampling, error));
  double temperature = 1, top_p = 1, min_p = 0, penalty = 1;
  if (!read_number(sampling, "temperature", 0, 1e6, &temperature)) return refuse_value(file, "temperature", "from 0 to 1e6", error);
  if (!read_number(sampling, "top_p", 0, 1, &top_p) || top_p <= 0) return refuse_value(file, "top_p", "above 0, at most 1", error);
  if (!read_number(sampling, "min_p", 0, 1, &min_p)) return refuse_value(file, "min_p", "from 0 to 1", error);
  ks_json top_k = ks_json_member(sampling, "top_k");
  int64_t most = 0;
  if (top_k.start && (!ks_json_integer(top_k, &most) || most < 0)) return refuse_value(file, "top_k", "an integer from 0", error);
  if (!read_number(sampling, "repetition_penalty", 1e-6, 1e6, &penalty))
    return refuse_value(file, "repetition_penalty", "from 1e-6 to 1e6", error);
  if (penalty < 1 || penalty > 1)
    return ks_fail(error, KS_BAD_FILE, "%s was exported with a repetition_penalty, which its signature sample does not support",
                   file);
  *options = (ks_options){.max_tokens = 200,
                          .temperature = (float)temperature,
                          .top_k = (int32_t)(most < INT32_MAX ? most : INT32_MAX),
                          .top_p = top_p > FLT_MIN ? (float)top_p : FLT_MIN, /* not rounded to 0, which is refused */
                          .min_p = (float)min_p};
  return KS_OK;
}

/* Takes how the model learns. A file that cannot learn says nothing of it. */
static ks_status read_learning(const char *file, ks_json config, ks_learn_options *learning, ks_error *error) {
  ks_json stored = ks_json_member(config, "learning");
  double rate = 0;
  bool is_valid = ks_json_is_object(stored) && ks_json_number(ks_json_member(stored, "rate"), &rate) && rate > 0 && rate <= KS_LARGEST_RATE;
  if (stored.start && !is_valid) return refuse_value(file, "learning", "an object with a positive rate, at most 1,000,000", error);
  learning->by_line = ks_json_is_true(ks_json_member(config, "by_line"));
  learning->rate = !is_valid ? 0 : rate > FLT_MIN ? (float)rate : FLT_MIN; /* not rounded to 0, which cannot learn */
  return KS_OK;
}

static ks_status read_config(const Directory *directory, size_t first, ks_bundle *bundle, char sha256[65], ks_error *error) {
  enum { LARGEST = 1 << 20 };
  ks_bytes content;
  TRY(read_part(directory, "config.json", LARGEST, &content, error));
  ks_json config = ks_json_object((const char *)content.data, content.size), sum = ks_json_member(config, "vocabulary_sha256");
  ks_status status = KS_OK;
  if (!config.start) status = ks_fail(error, KS_BAD_FILE, "%s has a damaged config.json: it must be a JSON object", directory->name);
  if (!status) status = check_kind(directory->name, config, error);
  if (!status) status = check_model(directory, config, first, bundle, error);
  if (!status) status = read_settings(directory->name, config, &bundle->options, error);
  if (!status) status = read_learning(directory->name, config, &bundle->learning, error);
  if (!ks_json_string(sum, sha256, 65)) *sha256 = 0; /* there is none; nothing has an empty one */
  free(content.data);
  return status;
}

static ks_status check_card(const Directory *directory, ks_error *error) {
  enum { LARGEST = 1 << 20 };
  if (!find_entry(directory, "card.json")) return KS_OK;
  ks_bytes content;
  TRY(read_part(directory, "card.json", LARGEST, &content, error));
  bool is_object = ks_json_object((const char *)content.data, content.size).start;
  free(content.data);
  return is_object ? KS_OK : ks_fail(error, KS_BAD_FILE, "%s has a damaged card.json: it must be a JSON object", directory->name);
}

static ks_status read_vocabulary(const Directory *directory, const char *sha256, ks_bytes *content, ks_error *error) {
  enum { LARGEST = 16 << 20 };
  uint8_t sum[KS_SHA256_SIZE];
  char found[65];
  TRY(read_part(directory, "vocab.txt", LARGEST, content, error));
  ks_sha256(content->data, content->size, sum);
  ks_hexadecimal(sum, found);
  if (!strcmp(found, sha256)) return KS_OK;
  free(content->data);
  return ks_fail(error, KS_BAD_FILE, "%s has another vocabulary than it was exported with: the SHA-256 differs", directory->name);
}

ks_status ks_read_bundle(ks_bytes file, const char *name, ks_bundle *bundle, ks_error *error) {
  Directory directory = {.name = name, .file = file};
  size_t count = 0, first = 0;
  char sha256[65];
  if (file.size < 8 || memcmp(file.data + 4, "TFL3", 4))
    return ks_fail(error, KS_BAD_FILE, "%s is not a .tflite file: it must have TFL3 at byte 4", name);
  if (file.size > (size_t)1 << 31)
    return ks_fail(error, KS_BAD_FILE, "%s has %zu bytes, more than a .tflite can have (2147483648)", name, file.size);
  TRY(find_directory(&directory, &count, error));
  TRY(check_entries(&directory, count, &first, error));
  TRY(read_config(&directory, first, bundle, sha256, error));
  TRY(check_card(&directory, error));
  return read_vocabulary(&directory, sha256, &bundle->vocabulary, error);
}
