/* A stand-in for libcuda.so.1: what the CUDA runtime asks before it uses a device, and what our probe asks. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>
#include "claims.h"

typedef struct { const char *name; int major; int minor; const char *uuid; unsigned long long memory; } gpu_t;
static const gpu_t gpus[] = { LAB_GPUS { 0, 0, 0, 0, 0 } };
static int visible[64]; /* indices into gpus, in CUDA's order, after cuInit */
static int shown;

static int count_gpus(void) {
    int count = 0;
    while (gpus[count].name) count++;
    return count;
}

int cuDriverGetVersion(int *version) {
    if (LAB_FAULT == FAULT_HANG) sleep(3600);
    if (LAB_FAULT == FAULT_CRASH) abort();
    if (LAB_FAULT == FAULT_ERROR) return 999;
    if (LAB_VERSION_ERROR) return LAB_VERSION_ERROR;
    *version = LAB_CUDA;
    return 0;
}

/* LAB_ORDER: CUDA's own order of the GPUs (FASTEST_FIRST), which need not be that of the PCI bus. */
static int in_order(int number) {
    static const int order[] = { LAB_ORDER -1 };
    const char *wanted = getenv("CUDA_DEVICE_ORDER");
    if (order[0] < 0 || (wanted && !strcmp(wanted, "PCI_BUS_ID"))) return number;
    return order[number];
}

/* The GPU that an entry names, or -1. */
static int named(const char *entry, int by_uuid) {
    if (by_uuid) {
        int match = -1;
        if (strncmp(entry, "GPU-", 4) || !entry[4]) return -1;
        for (int i = 0; i < count_gpus(); i++)
            if (!strncasecmp(gpus[i].uuid, entry, strlen(entry))) {
                if (match >= 0) return -1;
                match = i;
            }
        return match;
    }
    char *end;
    long number = strtol(entry, &end, 10);
    return end == entry || number < 0 || number >= count_gpus() ? -1 : in_order((int)number);
}

/* As driver 580.159.04 reads CUDA_VISIBLE_DEVICES; MIG instances are not modelled. */
static int choose(void) {
    const char *value = LAB_OBEYS ? getenv("CUDA_VISIBLE_DEVICES") : 0;
    shown = 0;
    if (!value) {
        for (int i = 0; i < count_gpus(); i++) visible[shown++] = in_order(i);
        return shown ? 0 : 100;
    }
    char copy[4096], *rest = copy, *entry;
    strncpy(copy, value, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    int by_uuid = !strncmp(copy, "GPU-", 4);
    while ((entry = strsep(&rest, ","))) {
        int gpu = named(entry, by_uuid);
        if (gpu < 0) break;
        for (int i = 0; i < shown; i++)
            if (visible[i] == gpu) return 101;
        visible[shown++] = gpu;
    }
    return shown ? 0 : 100;
}

int cuInit(unsigned flags) {
    (void)flags;
    if (LAB_INIT_ERROR) return LAB_INIT_ERROR;
    int code = choose();
    return LAB_OBEYS ? code : 0;
}

int cuDeviceGetCount(int *count) { *count = shown; return 0; }

int cuDeviceGet(int *device, int index) {
    if (index < 0 || index >= shown) return 101;
    *device = visible[index];
    return 0;
}

int cuDeviceGetName(char *name, int length, int device) {
    strncpy(name, gpus[device].name, (size_t)length - 1);
    name[length - 1] = 0;
    return 0;
}

int cuDeviceGetUuid(unsigned char *uuid, int device) {
    const char *text = gpus[device].uuid + strlen("GPU-");
    for (int i = 0; i < 16; i++) {
        while (*text == '-') text++;
        char digits[3] = { text[0], text[0] ? text[1] : 0, 0 };
        uuid[i] = (unsigned char)strtol(digits, 0, 16);
        if (text[0] && text[1]) text += 2;
    }
    return 0;
}

int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = gpus[device].memory; return 0; }

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
