/* A stand-in for libnvidia-ml.so.1: the functions of NVML that our probe asks through pynvml. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "claims.h"

typedef struct { const char *name; int major; int minor; const char *uuid; unsigned long long memory; } gpu_t;
static const gpu_t gpus[] = { LAB_GPUS { 0, 0, 0, 0, 0 } };
typedef struct { unsigned long long total, free, used; } memory_t;

enum { SUCCESS = 0, NOT_SUPPORTED = 3, UNKNOWN = 999, LOST = 15 };

static int begin(void) {
    if (LAB_FAULT == FAULT_HANG) sleep(3600);
    if (LAB_FAULT == FAULT_CRASH) abort();
    return LAB_FAULT == FAULT_ERROR ? UNKNOWN : LAB_NVML_ERROR;
}

int nvmlInit_v2(void) { return begin(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return begin(); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "Unknown Error"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "%s", LAB_DRIVER); return SUCCESS; }
int nvmlSystemGetCudaDriverVersion(int *version) { *version = LAB_CUDA; return SUCCESS; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = LAB_CUDA; return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 0;
    while (gpus[*count].name) (*count)++;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (LAB_FAULT == FAULT_LOST && index == 0) return LOST;
    *device = (void *)&gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetName(const gpu_t *device, char *text, unsigned length) { snprintf(text, length, "%s", device->name); return SUCCESS; }
int nvmlDeviceGetUUID(const gpu_t *device, char *text, unsigned length) { snprintf(text, length, "%s", device->uuid); return SUCCESS; }

int nvmlDeviceGetCudaComputeCapability(const gpu_t *device, int *major, int *minor) {
    *major = device->major;
    *minor = device->minor;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(const gpu_t *device, memory_t *memory) {
    memory->total = memory->free = device->memory;
    memory->used = 0;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(const gpu_t *device, unsigned *current, unsigned *pending) {
    (void)device;
    if (!LAB_MIG) return NOT_SUPPORTED;
    *current = *pending = 1;
    return SUCCESS;
}

int nvmlDeviceGetComputeMode(const gpu_t *device, unsigned *mode) { (void)device; *mode = LAB_COMPUTE_MODE; return SUCCESS; }
