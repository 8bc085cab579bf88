// The CPU backend's kernels in C: vector code for AVX-512, AVX2 and any x86-64, chosen when the program runs.
#pragma once
