/* Stands in front of a real libcuda.so.1, which it needs under another name: answers some questions itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>
#include "front.h"

typedef unsigned long long flags_t;

int cuDriverGetVersion(int *version) {
    int (*real)(int *) = dlsym(RTLD_NEXT, "cuDriverGetVersion");
    if (!FRONT_CUDA) return real(version);
    *version = FRONT_CUDA;
    return 0;
}

/* Whatever their parameters are: a function that answers an error reads none of them. */
static int no_context(void) { return FRONT_CONTEXT_ERROR; }
static int no_launch(void) { return FRONT_LAUNCH_ERROR; }

static void *own(const char *symbol) {
    if (!strcmp(symbol, "cuDriverGetVersion")) return (void *)cuDriverGetVersion;
    if (FRONT_CONTEXT_ERROR && !strcmp(symbol, "cuDevicePrimaryCtxRetain")) return (void *)no_context;
    if (FRONT_LAUNCH_ERROR && !strncmp(symbol, "cuLaunchKernel", strlen("cuLaunchKernel"))) return (void *)no_launch;
    return 0;
}

int cuGetProcAddress_v2(const char *symbol, void **function, int version, flags_t flags, int *status);

int cuGetProcAddress(const char *symbol, void **function, int version, flags_t flags) {
    int (*real)(const char *, void **, int, flags_t) = dlsym(RTLD_NEXT, "cuGetProcAddress");
    int code = real(symbol, function, version, flags);
    if (!code && !strcmp(symbol, "cuGetProcAddress"))
        *function = version >= 12000 ? (void *)cuGetProcAddress_v2 : (void *)cuGetProcAddress;
    else if (!code && own(symbol))
        *function = own(symbol);
    return code;
}

int cuGetProcAddress_v2(const char *symbol, void **function, int version, flags_t flags, int *status) {
    int (*real)(const char *, void **, int, flags_t, int *) = dlsym(RTLD_NEXT, "cuGetProcAddress_v2");
    int code = real(symbol, function, version, flags, status);
    if (!code && !strcmp(symbol, "cuGetProcAddress"))
        *function = version >= 12000 ? (void *)cuGetProcAddress_v2 : (void *)cuGetProcAddress;
    else if (!code && own(symbol))
        *function = own(symbol);
    return code;
}
