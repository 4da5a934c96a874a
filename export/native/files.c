/* Files: read whole, and written so that a reader never sees half of one. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

void ks_file_name(char name[KS_NAME_ROOM], const char *path) {
  size_t size = strlen(path), room = KS_NAME_ROOM - 1;
  const char *end = path + size, *start = size > room ? end - (room - 3) : path;
  while (start > path && ((uint8_t)*start & 0xC0) == 0x80) start++; /* not in the middle of a character */
  bool is_valid = ks_valid_size(start, (size_t)(end - start)) == (size_t)(end - start);
  snprintf(name, KS_NAME_ROOM, "%s%s", start > path && is_valid ? "..." : "", is_valid ? start : "the file");
}

ks_status ks_read_file(const char *path, const char *name, const char *kind, size_t largest, ks_bytes *content, ks_error *error) {
  struct stat about;
  FILE *file = NULL;
  if (stat(path, &about) || (S_ISREG(about.st_mode) && !(file = fopen(path, "rb"))))
    return ks_fail(error, KS_BAD_FILE, "%s cannot be read: %s", name, strerror(errno));
  if (!file) return ks_fail(error, KS_BAD_FILE, "%s is a directory or a device; name %s", name, kind);
  ks_status status = KS_OK;
  ks_bytes found = {NULL, (size_t)about.st_size};
  if ((uint64_t)about.st_size > largest) {
    status = ks_fail(error, KS_BAD_FILE, "%s has more bytes than %s can have (%zu)", name, kind, largest);
  } else if (!(found.data = malloc(found.size + 1))) {
    status = ks_no_memory(error);
  } else if (fread(found.data, 1, found.size, file) != found.size) {
    status = ks_fail(error, KS_BAD_FILE, "%s cannot be read: it became shorter meanwhile, or the disk fails", name);
  }
  fclose(file);
  if (status) {
    free(found.data);
  } else {
    *content = found;
  }
  return status;
}

/* Writes all bytes to a file and through to the disk, and closes it; returns whether that succeeded. */
static bool write_all(int file, ks_bytes content) {
  bool is_written = true;
  for (size_t done = 0; is_written && done < content.size;) {
    ssize_t more = write(file, content.data + done, content.size - done);
    if (more > 0) done += (size_t)more;
    is_written = more > 0 || (more < 0 && errno == EINTR);
  }
  is_written = is_written && !fsync(file);
  int reason = errno;
  if (close(file)) return false;
  errno = reason;
  return is_written;
}

ks_status ks_write_file(const char *path, const char *name, ks_bytes content, ks_error *error) {
  struct stat about;
  uint64_t number;
  if (!stat(path, &about) && !S_ISREG(about.st_mode))
    return ks_fail(error, KS_BAD_FILE, "%s cannot be written: it is a directory or a device; name a file", name);
  if (!ks_random_seed(&number)) return ks_fail(error, KS_FAILED, "the system gives no random number");
  size_t room = strlen(path) + sizeof ".partial-0123456789abcdef";
  char *partial = malloc(room);
  if (!partial) return ks_no_memory(error);
  snprintf(partial, room, "%s.partial-%016" PRIx64, path, number);
  int file = open(partial, O_WRONLY | O_CREAT | O_EXCL, 0666);
  bool is_written = file >= 0 && write_all(file, content) && !rename(partial, path);
  ks_status status = KS_OK;
  if (!is_written) {
    status = ks_fail(error, KS_BAD_FILE, "%s cannot be written: %s", name, strerror(errno));
    if (file >= 0) unlink(partial);
  }
  free(partial);
  return status;
}
