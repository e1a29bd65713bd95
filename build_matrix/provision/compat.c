/* What a newer libstdc++.a asks of glibc and an older glibc lacks. Linked in hidden, and only where it is needed. */

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>

#pragma GCC visibility push(hidden)

/* glibc 2.32: false means that atomic reference counts are used, which is always right. */
char __libc_single_threaded;

/* glibc 2.36 */
uint32_t arc4random(void) {
    uint32_t value;
    while (getrandom(&value, sizeof value, 0) != (ssize_t) sizeof value) {
        if (errno != EINTR) {
            abort();
        }
    }
    return value;
}

/* glibc 2.38: they read binary literals too, which nobody here writes. */
long __isoc23_strtol(const char *text, char **end, int base) { return strtol(text, end, base); }
unsigned long __isoc23_strtoul(const char *text, char **end, int base) { return strtoul(text, end, base); }
long long __isoc23_strtoll(const char *text, char **end, int base) { return strtoll(text, end, base); }
unsigned long long __isoc23_strtoull(const char *text, char **end, int base) { return strtoull(text, end, base); }
