// OpenCL 1.2. The functions are those of the loader, libOpenCL.so.1, which is opened when the first of them is called: a machine that has none
// still runs everything on the processor.
#pragma once
#define CL_TARGET_OPENCL_VERSION 120
#define CL_USE_DEPRECATED_OPENCL_1_2_APIS
#include <CL/cl.h>
