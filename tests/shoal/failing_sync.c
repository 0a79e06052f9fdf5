/* Makes syncs of files fail, for a program that is started with this in LD_PRELOAD.

   SHIM_FAIL_AT=n     the nth sync of a file fails, those before and behind it do not
   SHIM_TRIGGER=file  every sync fails while that file exists
   SHIM_NAME=name     of these, only syncs of files of that name fail
   SHIM_DIARY=file    gets a line "failed" for each that does                                    */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_int syncs;

static void note(void) {
  const char *path = getenv("SHIM_DIARY");
  int fd = path ? open(path, O_WRONLY | O_APPEND | O_CREAT, 0600) : -1;
  if (fd >= 0) {
    if (write(fd, "failed\n", 7) < 0) abort();
    close(fd);
  }
}

static int is_meant(int fd) {
  const char *name = getenv("SHIM_NAME");
  char link[64], path[4096];
  if (!name) return 1;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size < 0) return 0;
  path[size] = 0;
  const char *slash = strrchr(path, '/');
  return strcmp(slash ? slash + 1 : path, name) == 0;
}

static int fails(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return 0;
  const char *at = getenv("SHIM_FAIL_AT"), *trigger = getenv("SHIM_TRIGGER");
  if (!is_meant(fd)) return 0;
  int number = ++syncs;
  if (!(at && number == atoi(at)) && !(trigger && access(trigger, F_OK) == 0)) return 0;
  note();
  errno = EIO;
  return 1;
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fsync");
  return fails(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
  return fails(fd) ? -1 : real(fd);
}
