/* Stops or hinders a program at the n-th of its file operations.
 *
 *     cc -shared -fPIC -O2 shim.c -o shim.so -ldl
 *     LD_PRELOAD=./shim.so FAULT_KILL=120 evenkeel train tiny --out run
 *
 * Only programs whose name contains FAULT_PROGRAM (by default "evenkeel") are touched: not their children, nor what starts them.
 * Operations are those that change files: open for writing, write to a regular file, rename, link, unlink, rmdir, mkdir, truncate
 * and flush. They are counted from 1.
 *
 *     FAULT_KILL=n      ends the process (SIGKILL) before operation n
 *     FAULT_TORN=1      with it: if operation n is a write, half of it is done first
 *     FAULT_FAIL=n      operation n fails, and the FAULT_COUNT - 1 after it (by default all), with errno FAULT_ERRNO (by default
 *                       ENOSPC); of these only what needs room fails (open, write, mkdir, truncate, flush), as on a full disk
 *     FAULT_CPU=ms      ends the process after so many milliseconds of processor time
 *     FAULT_LOG=file    lists all operations there
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static int active, torn, error_number = ENOSPC, log_fd = -1;
static long operations, kill_at = -1, fail_at = -1, fail_count = LONG_MAX / 2;

static long number(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

static void stop(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

__attribute__((constructor)) static void begin(void) {
    char program[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0) return;
    program[length] = 0;
    const char *name = strrchr(program, '/'), *wanted = getenv("FAULT_PROGRAM");
    if (!strstr(name ? name : program, wanted ? wanted : "evenkeel")) return;
    const char *list = getenv("FAULT_LOG");
    if (list) log_fd = syscall(SYS_openat, AT_FDCWD, list, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    kill_at = number("FAULT_KILL", -1);
    torn = number("FAULT_TORN", 0) != 0;
    fail_at = number("FAULT_FAIL", -1);
    fail_count = number("FAULT_COUNT", LONG_MAX / 2);
    error_number = number("FAULT_ERRNO", ENOSPC);
    long milliseconds = number("FAULT_CPU", 0);
    if (milliseconds > 0) {
        struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
        struct itimerspec when = {.it_value = {milliseconds / 1000, milliseconds % 1000 * 1000000}};
        timer_t timer;
        timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer);
        timer_settime(timer, 0, &when, NULL);
    }
    active = 1;
}

/* Counts an operation; whether it is to fail. `half` does half of a write that is to be torn. */
static int fails(const char *what, const char *where, int needs_room, void (*half)(void *), void *argument) {
    if (!active) return 0;
    long at = __sync_add_and_fetch(&operations, 1);
    if (log_fd >= 0) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%ld %s %s\n", at, what, where ? where : "");
        syscall(SYS_write, log_fd, line, length);
    }
    if (at == kill_at) {
        if (torn && half) half(argument);
        stop();
    }
    if (needs_room && fail_at > 0 && at >= fail_at && at < fail_at + fail_count) {
        errno = error_number;
        return 1;
    }
    return 0;
}

#define REAL(name)                                   \
    static __typeof__(name) *real;                   \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static int is_file(int fd, char *path, size_t size) {
    struct stat status;
    if (!active || fd == log_fd || fstat(fd, &status) || !S_ISREG(status.st_mode)) return 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, size - 1);
    path[length > 0 ? length : 0] = 0;
    return 1;
}

struct written { int fd; const void *bytes; size_t count; };

static void write_half(void *argument) {
    struct written *written = argument;
    syscall(SYS_write, written->fd, written->bytes, written->count / 2);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    char path[PATH_MAX];
    struct written written = {fd, bytes, count};
    if (is_file(fd, path, sizeof path) && fails("write", path, 1, write_half, &written)) return -1;
    return real(fd, bytes, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(writev);
    char path[PATH_MAX];
    if (is_file(fd, path, sizeof path) && fails("writev", path, 1, NULL, NULL)) return -1;
    return real(fd, parts, count);
}

static int changes(const char *path, int flags) {
    int writes = flags & (O_CREAT | O_WRONLY | O_RDWR);
    return writes && strncmp(path, "/proc", 5) && strncmp(path, "/dev", 4) && strncmp(path, "/sys", 4);
}

#define OPEN(name, parameters, ...)                                          \
    int name parameters {                                                    \
        REAL(name);                                                          \
        va_list more;                                                        \
        va_start(more, flags);                                               \
        int mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, int) : 0;    \
        va_end(more);                                                        \
        if (changes(path, flags) && fails("open", path, 1, NULL, NULL)) return -1; \
        return real(__VA_ARGS__, mode);                                      \
    }
OPEN(open, (const char *path, int flags, ...), path, flags)
OPEN(open64, (const char *path, int flags, ...), path, flags)
OPEN(openat, (int folder, const char *path, int flags, ...), folder, path, flags)
OPEN(openat64, (int folder, const char *path, int flags, ...), folder, path, flags)

#define PLAIN(name, parameters, where, room, ...)                            \
    int name parameters {                                                    \
        REAL(name);                                                          \
        if (fails(#name, where, room, NULL, NULL)) return -1;                \
        return real(__VA_ARGS__);                                            \
    }
PLAIN(rename, (const char *from, const char *to), to, 0, from, to)
PLAIN(renameat2, (int a, const char *from, int b, const char *to, unsigned flags), to, 0, a, from, b, to, flags)
PLAIN(linkat, (int a, const char *from, int b, const char *to, int flags), to, 1, a, from, b, to, flags)
PLAIN(mkdir, (const char *path, mode_t mode), path, 1, path, mode)
PLAIN(unlink, (const char *path), path, 0, path)
PLAIN(unlinkat, (int folder, const char *path, int flags), path, 0, folder, path, flags)
PLAIN(rmdir, (const char *path), path, 0, path)
PLAIN(ftruncate64, (int fd, off_t length), NULL, 1, fd, length)
PLAIN(fsync, (int fd), NULL, 1, fd)
PLAIN(fdatasync, (int fd), NULL, 1, fd)
