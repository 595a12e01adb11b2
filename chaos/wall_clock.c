/* Moves the wall clock of one process, and nothing else, when told to at run time.
 *
 * Loaded by LD_PRELOAD into a node. Every look at the wall clock is shifted by the offset in the
 * file $QUORUMVAULT_CLOCK_FILE, which is mapped: a move works at once (chaos/process_clock.py). The
 * monotonic clock, sleeps and waits are not touched: they are not the wall clock's. (libfaketime
 * was tried: with its monotonic clock switched off it still spoils absolute monotonic sleeps, so
 * that time.sleep ends in EINVAL.)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *offset_ns; /* written by the other side as one aligned word */
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void load(void) {
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("QUORUMVAULT_CLOCK_FILE");
    if (!path) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED) offset_ns = map;
}

int clock_gettime(clockid_t id, struct timespec *ts) {
    int result = real_clock_gettime ? real_clock_gettime(id, ts)
                                    : (int)syscall(SYS_clock_gettime, id, ts);
    if (result || !offset_ns || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return result;
    int64_t off = __atomic_load_n(offset_ns, __ATOMIC_RELAXED);
    int64_t ns = ts->tv_nsec + off % 1000000000;
    ts->tv_sec += off / 1000000000;
    if (ns < 0) {
        ns += 1000000000;
        ts->tv_sec -= 1;
    } else if (ns >= 1000000000) {
        ns -= 1000000000;
        ts->tv_sec += 1;
    }
    ts->tv_nsec = ns;
    return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    struct timespec ts;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &ts)) return -1;
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *where) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (where) *where = ts.tv_sec;
    return ts.tv_sec;
}
