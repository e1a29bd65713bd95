/* A stand-in for libcuda.so.1: what the CUDA runtime asks before it uses a device, and what our probe asks. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "claims.h"

typedef struct { const char *name; int major; int minor; const char *uuid; unsigned long long memory; } gpu_t;
static const gpu_t gpus[] = { LAB_GPUS { 0, 0, 0, 0, 0 } };

static int count_gpus(void) {
    int count = 0;
    while (gpus[count].name) count++;
    return count;
}

int cuDriverGetVersion(int *version) {
    if (LAB_FAULT == FAULT_HANG) sleep(3600);
    if (LAB_FAULT == FAULT_CRASH) abort();
    if (LAB_FAULT == FAULT_ERROR) return 999;
    *version = LAB_CUDA;
    return 0;
}

int cuInit(unsigned flags) { (void)flags; return LAB_INIT_ERROR; }

int cuDeviceGetCount(int *count) { *count = count_gpus(); return 0; }

int cuDeviceGet(int *device, int index) { *device = index; return index < count_gpus() ? 0 : 101; }

int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, gpus[device].name, (size_t)length - 1);
    name[length - 1] = 0;
    return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
    if (attribute == 75) *value = gpus[device].major;
    else if (attribute == 76) *value = gpus[device].minor;
    else *value = 0;
    return 0;
}

/* The runtime asks for everything else by name; it gets nothing, as from a driver that does not have it. */
int cuGetProcAddress(const char *symbol, void **function, int version, unsigned long long flags) {
    (void)version; (void)flags;
    *function = 0;
    if (!strcmp(symbol, "cuDriverGetVersion")) *function = (void *)cuDriverGetVersion;
    else if (!strcmp(symbol, "cuInit")) *function = (void *)cuInit;
    else if (!strcmp(symbol, "cuGetProcAddress")) *function = (void *)cuGetProcAddress;
    return *function ? 0 : 500;
}
