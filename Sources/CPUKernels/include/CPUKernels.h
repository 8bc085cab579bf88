// The CPU backend's kernels in C: vector code for AVX-512, AVX2 and any processor, chosen when the program runs.
//
// Nothing here allocates while it runs: plans, programs and work space are made when a schedule is loaded.
#pragma once

#include "MartletAttention.h"
#include "MartletConvolution.h"
#include "MartletElementwise.h"
#include "MartletPool.h"
#include "MartletProduct.h"
#include "MartletReduction.h"
#include "MartletSampler.h"
