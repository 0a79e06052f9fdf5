/* A file system that knows no second name for a file, as those of sticks and cards, in LD_PRELOAD. */

#include <errno.h>
#include <unistd.h>

int link(const char *old, const char *new) {
  (void)old, (void)new;
  errno = EPERM;
  return -1;
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
  (void)from, (void)old, (void)to, (void)new, (void)flags;
  errno = EPERM;
  return -1;
}
