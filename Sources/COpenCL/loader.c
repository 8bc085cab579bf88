#define _GNU_SOURCE
#include "COpenCL.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stddef.h>

static pthread_once_t opened = PTHREAD_ONCE_INIT;
static void *library;

static void open_library(void) { library = dlopen("libOpenCL.so.1", RTLD_NOW | RTLD_LOCAL); }

// What a tool has preloaded (oclgrind) comes first.
static void *find(const char *name) {
    void *preloaded = dlsym(RTLD_DEFAULT, name);
    if (preloaded) return preloaded;
    pthread_once(&opened, open_library);
    return library ? dlsym(library, name) : NULL;
}

// The functions are hidden, so that drivers find the loader's and not these.
#define HIDDEN __attribute__((visibility("hidden")))

// A function that returns a status; without a loader there are no platforms, and nobody comes further.
#define STATUS(name, parameters, arguments) \
    HIDDEN cl_int name parameters { \
        static cl_int(*function) parameters; \
        if (!__atomic_load_n(&function, __ATOMIC_RELAXED)) { \
            __atomic_store_n(&function, (cl_int(*) parameters)find(#name), __ATOMIC_RELAXED); \
        } \
        return function ? function arguments : -1001 /* CL_PLATFORM_NOT_FOUND_KHR */; \
    }

// A function that makes something and has a status as its last argument.
#define MAKER(type, name, parameters, arguments) \
    HIDDEN type name parameters { \
        static type(*function) parameters; \
        if (!__atomic_load_n(&function, __ATOMIC_RELAXED)) { \
            __atomic_store_n(&function, (type(*) parameters)find(#name), __ATOMIC_RELAXED); \
        } \
        if (function) return function arguments; \
        if (status) *status = -1001; \
        return NULL; \
    }

typedef void(CL_CALLBACK *context_notice)(const char *, const void *, size_t, void *);
typedef void(CL_CALLBACK *program_notice)(cl_program, void *);

STATUS(clGetPlatformIDs, (cl_uint n, cl_platform_id *ids, cl_uint *count), (n, ids, count))
STATUS(
    clGetPlatformInfo, (cl_platform_id p, cl_platform_info key, size_t n, void *value, size_t *size), (p, key, n, value, size))
STATUS(
    clGetDeviceIDs, (cl_platform_id p, cl_device_type type, cl_uint n, cl_device_id *ids, cl_uint *count),
    (p, type, n, ids, count))
STATUS(clGetDeviceInfo, (cl_device_id d, cl_device_info key, size_t n, void *value, size_t *size), (d, key, n, value, size))

MAKER(
    cl_context, clCreateContext,
    (const cl_context_properties *properties, cl_uint n, const cl_device_id *devices, context_notice notice, void *data,
     cl_int *status),
    (properties, n, devices, notice, data, status))
STATUS(clReleaseContext, (cl_context c), (c))
MAKER(
    cl_command_queue, clCreateCommandQueue,
    (cl_context c, cl_device_id d, cl_command_queue_properties properties, cl_int *status), (c, d, properties, status))
STATUS(clReleaseCommandQueue, (cl_command_queue q), (q))
STATUS(clFlush, (cl_command_queue q), (q))
STATUS(clFinish, (cl_command_queue q), (q))

MAKER(
    cl_mem, clCreateBuffer, (cl_context c, cl_mem_flags flags, size_t n, void *host, cl_int *status),
    (c, flags, n, host, status))
MAKER(
    cl_mem, clCreateSubBuffer,
    (cl_mem m, cl_mem_flags flags, cl_buffer_create_type type, const void *region, cl_int *status),
    (m, flags, type, region, status))
STATUS(clReleaseMemObject, (cl_mem m), (m))

MAKER(
    cl_program, clCreateProgramWithSource,
    (cl_context c, cl_uint n, const char **texts, const size_t *lengths, cl_int *status), (c, n, texts, lengths, status))
MAKER(
    cl_program, clCreateProgramWithBinary,
    (cl_context c, cl_uint n, const cl_device_id *devices, const size_t *lengths, const unsigned char **binaries,
     cl_int *each, cl_int *status),
    (c, n, devices, lengths, binaries, each, status))
STATUS(
    clBuildProgram,
    (cl_program p, cl_uint n, const cl_device_id *devices, const char *options, program_notice notice, void *data),
    (p, n, devices, options, notice, data))
STATUS(clGetProgramInfo, (cl_program p, cl_program_info key, size_t n, void *value, size_t *size), (p, key, n, value, size))
STATUS(
    clGetProgramBuildInfo,
    (cl_program p, cl_device_id d, cl_program_build_info key, size_t n, void *value, size_t *size),
    (p, d, key, n, value, size))
STATUS(clReleaseProgram, (cl_program p), (p))

MAKER(cl_kernel, clCreateKernel, (cl_program p, const char *name, cl_int *status), (p, name, status))
STATUS(clSetKernelArg, (cl_kernel k, cl_uint index, size_t n, const void *value), (k, index, n, value))
STATUS(clReleaseKernel, (cl_kernel k), (k))

#define WAITING cl_uint waits, const cl_event *waited, cl_event *event
STATUS(
    clEnqueueNDRangeKernel,
    (cl_command_queue q, cl_kernel k, cl_uint rank, const size_t *offset, const size_t *global, const size_t *local, WAITING),
    (q, k, rank, offset, global, local, waits, waited, event))
STATUS(
    clEnqueueReadBuffer, (cl_command_queue q, cl_mem m, cl_bool blocks, size_t offset, size_t n, void *target, WAITING),
    (q, m, blocks, offset, n, target, waits, waited, event))
STATUS(
    clEnqueueWriteBuffer,
    (cl_command_queue q, cl_mem m, cl_bool blocks, size_t offset, size_t n, const void *source, WAITING),
    (q, m, blocks, offset, n, source, waits, waited, event))
STATUS(
    clEnqueueCopyBuffer,
    (cl_command_queue q, cl_mem source, cl_mem target, size_t from, size_t to, size_t n, WAITING),
    (q, source, target, from, to, n, waits, waited, event))
STATUS(
    clEnqueueFillBuffer,
    (cl_command_queue q, cl_mem m, const void *pattern, size_t size, size_t offset, size_t n, WAITING),
    (q, m, pattern, size, offset, n, waits, waited, event))

STATUS(clWaitForEvents, (cl_uint n, const cl_event *events), (n, events))
STATUS(
    clGetEventProfilingInfo, (cl_event e, cl_profiling_info key, size_t n, void *value, size_t *size),
    (e, key, n, value, size))
STATUS(clReleaseEvent, (cl_event e), (e))
