// Reads and writes less than they were asked for, and are interrupted now and then: a library to be
// loaded in front of the system's. Counts go to the file that SHORT_COUNTS names.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_ulong shortened, interrupted;
static _Atomic unsigned state = 1;

static unsigned throw_dice(void) {
    return atomic_fetch_add(&state, 0x9e3779b9u) * 2654435761u >> 8;
}

// What is small is a message to somebody, and left whole.
static size_t less(size_t len) {
    if (len <= 512)
        return len;
    atomic_fetch_add(&shortened, 1);
    return 1 + throw_dice() % len;
}

static int interrupts(size_t len) {
    if (len <= 512 || throw_dice() % 8 != 0)
        return 0;
    atomic_fetch_add(&interrupted, 1);
    errno = EINTR;
    return 1;
}

#define SYSTEMS(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pread64(int fd, void *bytes, size_t len, off64_t at) {
    return interrupts(len) ? -1 : SYSTEMS(pread64)(fd, bytes, less(len), at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at) {
    return interrupts(len) ? -1 : SYSTEMS(pwrite64)(fd, bytes, less(len), at);
}

ssize_t read(int fd, void *bytes, size_t len) {
    return interrupts(len) ? -1 : SYSTEMS(read)(fd, bytes, less(len));
}

ssize_t write(int fd, const void *bytes, size_t len) {
    return interrupts(len) ? -1 : SYSTEMS(write)(fd, bytes, less(len));
}

static FILE *file;

// Later, no file can be opened any more.
__attribute__((constructor)) static void prepare(void) {
    const char *name = getenv("SHORT_COUNTS");
    file = name ? fopen(name, "a") : NULL;
}

__attribute__((destructor)) static void tell(void) {
    if (file) {
        fprintf(file, "%lu %lu\n", shortened, interrupted);
        fclose(file);
    }
}
