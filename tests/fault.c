/* LD_PRELOAD: the fault_at-th call that changes a file whose path contains fault_where fails, tears, or is the last. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { COUNT, BEFORE, AFTER, TORN, FULL, BROKEN, STAYS_FULL };
enum { GO_ON, FAIL, THEN_DIE, TEAR };

static long at, seen;
static int kind;
static char where[4096];

void fault_arm(long number, int what, const char *path) {
    at = number, seen = 0, kind = what;
    snprintf(where, sizeof where, "%s", path);
}
long fault_seen(void) { return seen; }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int named(const char *path) { return *where && path && strstr(path, where); }

static int opened(int file) {
    char link[64], path[4096];
    if (!*where) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return named(path);
}

static int fault(void) {
    seen++;
    if (kind == COUNT || seen < at || (seen > at && kind != STAYS_FULL)) return GO_ON;
    switch (kind) {
    case BEFORE: die();
    case AFTER: return THEN_DIE;
    case TORN: return TEAR;
    case BROKEN: errno = EIO; return FAIL;
    default: errno = ENOSPC; return FAIL;
    }
}

#define REAL(result, name, ...) result (*real)(__VA_ARGS__) = dlsym(RTLD_NEXT, name)
#define CALL(mine, failed, whole, torn) \
    if (!(mine)) return whole; \
    switch (fault()) { \
    case FAIL: return failed; \
    case THEN_DIE: (void)!(whole); die(); \
    case TEAR: (void)!(torn); die(); \
    } \
    return whole

ssize_t write(int file, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    CALL(opened(file), -1, real(file, data, size), real(file, data, size / 2));
}
ssize_t pwrite(int file, const void *data, size_t size, off_t place) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    CALL(opened(file), -1, real(file, data, size, place), real(file, data, size / 2, place));
}
ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    CALL(opened(file), -1, real(file, data, size, place), real(file, data, size / 2, place));
}
int ftruncate(int file, off_t size) {
    REAL(int, "ftruncate", int, off_t);
    CALL(opened(file), -1, real(file, size), real(file, size));
}
int ftruncate64(int file, off64_t size) {
    REAL(int, "ftruncate64", int, off64_t);
    CALL(opened(file), -1, real(file, size), real(file, size));
}
int fsync(int file) {
    REAL(int, "fsync", int);
    CALL(opened(file), -1, real(file), real(file));
}
int fdatasync(int file) {
    REAL(int, "fdatasync", int);
    CALL(opened(file), -1, real(file), real(file));
}
int rename(const char *old, const char *new) {
    REAL(int, "rename", const char *, const char *);
    CALL(named(old) || named(new), -1, real(old, new), real(old, new));
}
int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    CALL(named(path), -1, real(path), real(path));
}
int open(const char *path, int flags, ...) {
    REAL(int, "open", const char *, int, ...);
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    CALL(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR) && named(path), -1, real(path, flags, mode), real(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
    REAL(int, "open64", const char *, int, ...);
    va_list more;
    va_start(more, flags);
    mode_t mode = va_arg(more, mode_t);
    va_end(more);
    CALL(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR) && named(path), -1, real(path, flags, mode), real(path, flags, mode));
}
