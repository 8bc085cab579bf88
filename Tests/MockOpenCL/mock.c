// An OpenCL library that poses as a GPU, runs nothing and writes down what it is asked for, so that tests can count what a device would
// have to do. What it reads back are zeros.
//
// MOCK_LOG names the file of its log. MOCK_UNITS, MOCK_WORK_GROUP, MOCK_LOCAL and MOCK_ALLOCATION are the device's compute units,
// work-items of a group, bytes of local memory and bytes of one allocation; without them it is as large as a GPU of a data centre. What is
// beyond these limits fails as it would on a device. MOCK_NAME is what it calls itself.
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct _cl_mem {
    size_t size;
};
struct _cl_program {
    char *source;
};
struct _cl_kernel {
    char name[128];
    size_t argumentBytes[256];
};

// What an object is does not matter where nothing asks for it.
static int platform, device, context, queue;

static size_t setting(const char *name, size_t otherwise) {
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static void note(const char *format, ...) {
    static FILE *log;
    if (!log) log = fopen(getenv("MOCK_LOG") ? getenv("MOCK_LOG") : "/dev/null", "w");
    va_list arguments;
    va_start(arguments, format);
    vfprintf(log, format, arguments);
    va_end(arguments);
    fflush(log);
}

static cl_int answer(const void *bytes, size_t size, size_t room, void *value, size_t *needed) {
    if (needed) *needed = size;
    if (value && room < size) return CL_INVALID_VALUE;
    if (value) memcpy(value, bytes, size);
    return CL_SUCCESS;
}

#define ANSWER(type, x) \
    do { \
        const type result = (type)(x); \
        return answer(&result, sizeof result, room, value, needed); \
    } while (0)
#define ANSWER_TEXT(x) return answer(x, strlen(x) + 1, room, value, needed)

cl_int clGetPlatformIDs(cl_uint n, cl_platform_id *ids, cl_uint *count) {
    if (count) *count = 1;
    if (ids && n > 0) ids[0] = (cl_platform_id)&platform;
    return CL_SUCCESS;
}

cl_int clGetPlatformInfo(cl_platform_id p, cl_platform_info key, size_t room, void *value, size_t *needed) {
    ANSWER_TEXT("Mock");
}

cl_int clGetDeviceIDs(cl_platform_id p, cl_device_type type, cl_uint n, cl_device_id *ids, cl_uint *count) {
    if (count) *count = 1;
    if (ids && n > 0) ids[0] = (cl_device_id)&device;
    return CL_SUCCESS;
}

cl_int clGetDeviceInfo(cl_device_id d, cl_device_info key, size_t room, void *value, size_t *needed) {
    switch (key) {
        case CL_DEVICE_AVAILABLE:
        case CL_DEVICE_COMPILER_AVAILABLE: ANSWER(cl_bool, CL_TRUE);
        case CL_DEVICE_VERSION: ANSWER_TEXT("OpenCL 1.2 mock");
        case CL_DEVICE_NAME: ANSWER_TEXT(getenv("MOCK_NAME") ? getenv("MOCK_NAME") : "a device that runs nothing");
        case CL_DEVICE_VENDOR: ANSWER_TEXT("Martlet");
        case CL_DRIVER_VERSION: ANSWER_TEXT("1");
        case CL_DEVICE_TYPE: ANSWER(cl_device_type, CL_DEVICE_TYPE_GPU);
        case CL_DEVICE_MAX_COMPUTE_UNITS: ANSWER(cl_uint, setting("MOCK_UNITS", 132));
        case CL_DEVICE_MAX_WORK_GROUP_SIZE: ANSWER(size_t, setting("MOCK_WORK_GROUP", 1024));
        case CL_DEVICE_LOCAL_MEM_SIZE: ANSWER(cl_ulong, setting("MOCK_LOCAL", 48 << 10));
        case CL_DEVICE_GLOBAL_MEM_SIZE: ANSWER(cl_ulong, 4 * setting("MOCK_ALLOCATION", (size_t)32 << 30));
        case CL_DEVICE_MAX_MEM_ALLOC_SIZE: ANSWER(cl_ulong, setting("MOCK_ALLOCATION", (size_t)32 << 30));
        case CL_DEVICE_MEM_BASE_ADDR_ALIGN: ANSWER(cl_uint, 4096);
        case CL_DEVICE_PLATFORM: ANSWER(cl_platform_id, &platform);
        default: return CL_INVALID_VALUE;
    }
}

#define DONE(x) \
    do { \
        if (status) *status = CL_SUCCESS; \
        return x; \
    } while (0)

cl_context clCreateContext(
    const cl_context_properties *properties, cl_uint n, const cl_device_id *devices,
    void(CL_CALLBACK *notice)(const char *, const void *, size_t, void *), void *data, cl_int *status) {
    DONE((cl_context)&context);
}
cl_int clReleaseContext(cl_context c) { return CL_SUCCESS; }

cl_command_queue clCreateCommandQueue(cl_context c, cl_device_id d, cl_command_queue_properties properties, cl_int *status) {
    DONE((cl_command_queue)&queue);
}
cl_int clReleaseCommandQueue(cl_command_queue q) { return CL_SUCCESS; }

cl_mem clCreateBuffer(cl_context c, cl_mem_flags flags, size_t size, void *host, cl_int *status) {
    if (size > setting("MOCK_ALLOCATION", (size_t)32 << 30)) {
        *status = CL_INVALID_BUFFER_SIZE;
        return NULL;
    }
    cl_mem m = calloc(1, sizeof *m);
    m->size = size;
    DONE(m);
}

cl_mem clCreateSubBuffer(cl_mem whole, cl_mem_flags flags, cl_buffer_create_type type, const void *region, cl_int *status) {
    const cl_buffer_region *part = region;
    if (part->origin % 512 != 0 || part->origin + part->size > whole->size) {
        *status = CL_MISALIGNED_SUB_BUFFER_OFFSET;
        return NULL;
    }
    cl_mem m = calloc(1, sizeof *m);
    m->size = part->size;
    DONE(m);
}

cl_int clReleaseMemObject(cl_mem m) {
    free(m);
    return CL_SUCCESS;
}

cl_program clCreateProgramWithSource(cl_context c, cl_uint n, const char **texts, const size_t *lengths, cl_int *status) {
    cl_program p = calloc(1, sizeof *p);
    p->source = strdup(texts[0]);
    DONE(p);
}
cl_program clCreateProgramWithBinary(
    cl_context c, cl_uint n, const cl_device_id *devices, const size_t *lengths, const unsigned char **binaries, cl_int *each,
    cl_int *status) {
    *status = CL_INVALID_BINARY;
    return NULL;
}
cl_int clBuildProgram(
    cl_program p, cl_uint n, const cl_device_id *devices, const char *options,
    void(CL_CALLBACK *notice)(cl_program, void *), void *data) {
    note("program %zu\n", strlen(p->source));
    return CL_SUCCESS;
}
cl_int clGetProgramBuildInfo(
    cl_program p, cl_device_id d, cl_program_build_info key, size_t room, void *value, size_t *needed) {
    ANSWER_TEXT("");
}
cl_int clGetProgramInfo(cl_program p, cl_program_info key, size_t room, void *value, size_t *needed) { ANSWER(size_t, 0); }
cl_int clReleaseProgram(cl_program p) {
    free(p->source);
    free(p);
    return CL_SUCCESS;
}

cl_kernel clCreateKernel(cl_program p, const char *name, cl_int *status) {
    cl_kernel k = calloc(1, sizeof *k);
    snprintf(k->name, sizeof k->name, "%s", name);
    DONE(k);
}
cl_int clSetKernelArg(cl_kernel k, cl_uint index, size_t size, const void *value) {
    if (index >= 256) return CL_INVALID_ARG_INDEX;
    k->argumentBytes[index] = size;
    return CL_SUCCESS;
}
cl_int clReleaseKernel(cl_kernel k) {
    free(k);
    return CL_SUCCESS;
}

// launch NAME groups=.. local=.. arguments=..
cl_int clEnqueueNDRangeKernel(
    cl_command_queue q, cl_kernel k, cl_uint rank, const size_t *offset, const size_t *global, const size_t *local,
    cl_uint waits, const cl_event *waited, cl_event *event) {
    size_t groups = 1, items = 1, bytes = 0;
    for (cl_uint i = 0; i < rank; i++) {
        if (global[i] % local[i] != 0) return CL_INVALID_WORK_GROUP_SIZE;
        groups *= global[i] / local[i];
        items *= local[i];
    }
    for (int i = 0; i < 256; i++) bytes += k->argumentBytes[i];
    note("launch %s groups=%zu local=%zu arguments=%zu\n", k->name, groups, items, bytes);
    return items > setting("MOCK_WORK_GROUP", 1024) ? CL_INVALID_WORK_GROUP_SIZE : CL_SUCCESS;
}

cl_int clEnqueueReadBuffer(
    cl_command_queue q, cl_mem m, cl_bool blocks, size_t offset, size_t size, void *target, cl_uint waits,
    const cl_event *waited, cl_event *event) {
    note("%s %zu\n", blocks ? "wait read" : "read", size);
    memset(target, 0, size);
    if (event) *event = (cl_event)&queue;
    return CL_SUCCESS;
}
cl_int clEnqueueWriteBuffer(
    cl_command_queue q, cl_mem m, cl_bool blocks, size_t offset, size_t size, const void *source, cl_uint waits,
    const cl_event *waited, cl_event *event) {
    note("%s %zu\n", blocks ? "wait write" : "write", size);
    return CL_SUCCESS;
}
cl_int clEnqueueCopyBuffer(
    cl_command_queue q, cl_mem source, cl_mem target, size_t from, size_t to, size_t size, cl_uint waits,
    const cl_event *waited, cl_event *event) {
    note("copy %zu\n", size);
    return from + size > source->size || to + size > target->size ? CL_INVALID_VALUE : CL_SUCCESS;
}
cl_int clEnqueueFillBuffer(
    cl_command_queue q, cl_mem m, const void *pattern, size_t each, size_t offset, size_t size, cl_uint waits,
    const cl_event *waited, cl_event *event) {
    note("fill %zu\n", size);
    return CL_SUCCESS;
}
cl_int clFinish(cl_command_queue q) {
    note("wait finish\n");
    return CL_SUCCESS;
}
cl_int clFlush(cl_command_queue q) {
    note("flush\n");
    return CL_SUCCESS;
}
cl_int clWaitForEvents(cl_uint n, const cl_event *events) {
    note("wait event\n");
    return CL_SUCCESS;
}
cl_int clGetEventProfilingInfo(cl_event e, cl_profiling_info key, size_t room, void *value, size_t *needed) {
    ANSWER(cl_ulong, 0);
}
cl_int clReleaseEvent(cl_event e) { return CL_SUCCESS; }
