/* SPDX-License-Identifier: MIT */
#include "halves.h"
#include "kernels.h"

/* Items are pairs of numbers. */
void VKL_CPU(narrow)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklNarrowArgs *args = &op->args.NARROW;
    uint32_t *dst = (uint32_t *)ptr[0] + args->off0;
    const uint32_t *src = (const uint32_t *)ptr[1] + args->off1;
    size_t first = (size_t)(2 * begin), last = 2 * end < args->count ? (size_t)(2 * end) : args->count;

    switch (op->spec[VKL_SPEC_FORM]) {
    case VKL_NARROW_PACK:
        for (size_t i = first; i + 1 < last; i += 2)
            dst[i / 2] = half_of(src[i]) | half_of(src[i + 1]) << 16;
        if (last % 2)
            dst[last / 2] = half_of(src[last - 1]);
        break;
    case VKL_NARROW_UNPACK:
        for (size_t i = first; i < last; i++)
            dst[i] = float_of(src[i / 2] >> (16 * (i % 2)) & 0xffffu);
        break;
    default:
        for (size_t i = first; i < last; i++)
            dst[i] = float_of(half_of(src[i]));
        const uint32_t exact[2][2] = {{args->exact_begin0, args->exact_end0}, {args->exact_begin1, args->exact_end1}};
        for (int range = 0; range < 2; range++)
            for (size_t i = exact[range][0] > first ? exact[range][0] : first; i < exact[range][1] && i < last; i++)
                dst[i] = src[i];
    }
}
