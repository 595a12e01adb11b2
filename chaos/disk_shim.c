/* Makes the disk of one process fail or be slow, when told to at run time.
 *
 * Loaded by LD_PRELOAD into a node. Writes and syncs of files below $QUORUMVAULT_SHIM_BELOW obey the
 * rules in the file $QUORUMVAULT_SHIM_RULES, which is mapped, so that a rule works from the moment
 * in which the other side writes it (chaos/disk_shim.py) and `hits` tells there what was done.
 * Everything else passes untouched, and so does everything while no rule is set.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Keep in step with RULE in disk_shim.py. */
struct rule {
    uint32_t error;    /* errno to fail with; 0: only the delay */
    uint32_t left;     /* how many more calls; FOREVER: no end; 0: no rule */
    uint32_t delay_us; /* before the call, or before it fails */
    uint32_t hits;     /* calls that met the rule */
};
#define FOREVER UINT32_MAX
enum { ON_WRITE, ON_SYNC, RULES };

static struct rule *rules;
static char below[PATH_MAX];
static size_t below_length;

__attribute__((constructor)) static void load(void) {
    const char *path = getenv("QUORUMVAULT_SHIM_RULES"), *root = getenv("QUORUMVAULT_SHIM_BELOW");
    if (!path || !root || strlen(root) >= sizeof below) return;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, RULES * sizeof *rules, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return;
    strcpy(below, root);
    below_length = strlen(below);
    rules = map;
}

static int is_below(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length >= (ssize_t)below_length && memcmp(path, below, below_length) == 0;
}

/* The errno that this call is to fail with, or 0: let it pass. fd -1: no file to look at. */
static int verdict(int which, int fd) {
    if (!rules) return 0;
    struct rule *rule = &rules[which];
    uint32_t left = __atomic_load_n(&rule->left, __ATOMIC_ACQUIRE);
    if (left == 0 || (fd >= 0 && !is_below(fd))) return 0;
    while (left != FOREVER &&
           !__atomic_compare_exchange_n(&rule->left, &left, left - 1, 0, __ATOMIC_ACQ_REL,
                                        __ATOMIC_ACQUIRE))
        if (left == 0) return 0;
    uint32_t delay_us = rule->delay_us, error = rule->error;
    __atomic_add_fetch(&rule->hits, 1, __ATOMIC_ACQ_REL);
    struct timespec rest = {delay_us / 1000000, (long)(delay_us % 1000000) * 1000};
    while (delay_us && nanosleep(&rest, &rest) != 0 && errno == EINTR) continue;
    return (int)error;
}

#define PASS(which, fd, name, ...)                                     \
    static __typeof__(name) *real;                                     \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);     \
    int error = verdict(which, fd);                                    \
    if (error) {                                                       \
        errno = error;                                                 \
        return -1;                                                     \
    }                                                                  \
    return real(__VA_ARGS__)

ssize_t write(int fd, const void *data, size_t size) { PASS(ON_WRITE, fd, write, fd, data, size); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) {
    PASS(ON_WRITE, fd, pwrite, fd, data, size, at);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at) {
    PASS(ON_WRITE, fd, pwrite64, fd, data, size, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    PASS(ON_WRITE, fd, writev, fd, parts, count);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) {
    PASS(ON_WRITE, fd, pwritev, fd, parts, count, at);
}
int fsync(int fd) { PASS(ON_SYNC, fd, fsync, fd); }
int fdatasync(int fd) { PASS(ON_SYNC, fd, fdatasync, fd); }
int msync(void *at, size_t size, int flags) { PASS(ON_SYNC, -1, msync, at, size, flags); }
