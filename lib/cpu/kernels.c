/* SPDX-License-Identifier: MIT */
#include "kernels.h"

#ifdef VKL_CPU_LEVEL
#include "vector_items.h"
#endif

/* What it was compiled for, which flags for the whole build may have changed. */
#if defined(__AVX512F__)
#define INSTRUCTIONS "AVX-512"
#elif defined(__AVX2__)
#define INSTRUCTIONS "AVX2"
#elif defined(__AVX__)
#define INSTRUCTIONS "AVX"
#elif defined(__SSE2__) || defined(_M_X64)
#define INSTRUCTIONS "SSE2"
#elif defined(__ARM_NEON)
#define INSTRUCTIONS "NEON"
#endif

#define NAME_(level) #level
#define NAME(level) NAME_(level)

/* A choice that devices make by what they are; here it is all the same. */
#define X(name, shader)                                                                   \
    void VKL_CPU(shader)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end) \
    {                                                                                     \
        VKL_CPU(gemm)(op, ptr, begin, end);                                               \
    }
VKL_GEMM_LIKE_LIST(X)
#undef X

const VklCpuLevel VKL_CPU(level) = {
#ifdef VKL_CPU_LEVEL
    .name = NAME(VKL_CPU_LEVEL),
    .title = "kernels for " INSTRUCTIONS,
    .items = VKL_CPU(items),
    .packing = VKL_CPU(packing),
    .pack = VKL_CPU(pack),
    .part_cost = 1000000,
#else
    .name = "plain",
#ifdef INSTRUCTIONS
    .title = "plain C for " INSTRUCTIONS,
#else
    .title = "plain C",
#endif
    .part_cost = 200000,
#endif
    .kernels =
        {
#define X(name, shader, args, bindings, writable) [VKL_KERNEL_##name] = VKL_CPU(shader),
            VKL_KERNEL_LIST(X)
#undef X
        },
};
