// The OpenCL C sources, embedded at build time so that a binary can be moved.
#pragma once

extern const char martlet_kernel_common[];
