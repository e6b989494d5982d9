/* SPDX-License-Identifier: MIT */
#include "halves.h"
#include "kernels.h"

#define BLOCK 512 /* numbers */

/* Numbers first to last, first even. In two loops, each of which compilers turn into vector code. */
static void pack(uint32_t *dst, const uint32_t *src, size_t first, size_t last)
{
    uint32_t halves[BLOCK];
    for (; first < last; first += BLOCK) {
        size_t count = last - first < BLOCK ? last - first : BLOCK;
        for (size_t i = 0; i < count; i++)
            halves[i] = half_of(src[first + i]);
        for (size_t i = 0; i + 1 < count; i += 2)
            dst[(first + i) / 2] = halves[i] | halves[i + 1] << 16;
        if (count % 2)
            dst[(first + count) / 2] = halves[count - 1];
    }
}

static void unpack(uint32_t *dst, const uint32_t *src, size_t first, size_t last)
{
    for (size_t i = first; i + 1 < last; i += 2) {
        dst[i] = float_of(src[i / 2] & 0xffffu);
        dst[i + 1] = float_of(src[i / 2] >> 16);
    }
    if (last % 2)
        dst[last - 1] = float_of(src[last / 2] & 0xffffu);
}

/* Items are pairs of numbers. */
void VKL_CPU(narrow)(const VklOp *op, void *const *ptr, uint64_t begin, uint64_t end)
{
    const struct VklNarrowArgs *args = &op->args.NARROW;
    uint32_t *dst = (uint32_t *)ptr[0] + args->off0;
    const uint32_t *src = (const uint32_t *)ptr[1] + args->off1;
    size_t first = (size_t)(2 * begin), last = 2 * end < args->count ? (size_t)(2 * end) : args->count;

    switch (op->spec[VKL_SPEC_FORM]) {
    case VKL_NARROW_PACK:
        pack(dst, src, first, last);
        break;
    case VKL_NARROW_UNPACK:
        unpack(dst, src, first, last);
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
