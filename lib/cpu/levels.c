/* SPDX-License-Identifier: MIT
 *
 * Which levels of kernels this build has, and which of them this machine can run.
 */
#include "kernels.h"

#ifdef VKL_CPU_BASE
extern const VklCpuLevel vkl_cpu_base_level;
#endif
#ifdef VKL_CPU_AVX2
extern const VklCpuLevel vkl_cpu_avx2_level;
#endif
#ifdef VKL_CPU_AVX512
extern const VklCpuLevel vkl_cpu_avx512_level;
#endif

const VklCpuLevel *vkl_cpu_level_at(unsigned index)
{
    const VklCpuLevel *levels[4] = {&vkl_cpu_level};
    unsigned count = 1;
#ifdef VKL_CPU_BASE
    levels[count++] = &vkl_cpu_base_level;
#endif
    /* These ask whether the system saves the registers, too. */
#ifdef VKL_CPU_AVX2
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        levels[count++] = &vkl_cpu_avx2_level;
#endif
#ifdef VKL_CPU_AVX512
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        levels[count++] = &vkl_cpu_avx512_level;
#endif
    return index < count ? levels[index] : NULL;
}
