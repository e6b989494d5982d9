/* SPDX-License-Identifier: MIT
 *
 * Floats to halves and back, bit for bit on every device, against a definition in double precision: the multiple of a half's
 * last place that is nearest, the even one of two that are.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"
#include "internal.h"
#include "placed.h"

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static float from_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

/* ---- What a half is ---- */

static double half_value(uint32_t half)
{
    int exponent = (int)(half >> 10 & 31);
    double digits = half & 1023, sign = half & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return digits > 0 ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + digits, exponent - 25) : ldexp(digits, -24));
}

static double rounded(float x)
{
    int exponent;
    if (!isfinite(x))
        return x;
    frexp(fabs((double)x), &exponent); /* |x| is in [2^(exponent - 1), 2^exponent) */
    int place = exponent - 11 > -24 ? exponent - 11 : -24;
    double value = ldexp(nearbyint(ldexp((double)x, -place)), place);
    return fabs(value) >= 65536 ? copysign(INFINITY, x) : copysign(value, x);
}

static bool is_value(double got, double want)
{
    return isnan(want) ? isnan(got) : got == want && !signbit(got) == !signbit(want);
}

/* ---- A run on a device ---- */

static float *run(VklDevice *device, const VklNarrow *narrow, const float *src, uint64_t src_count, uint64_t dst_count,
                  uint64_t window)
{
    VklContext *context = vkl_device_context(device);
    float *empty = calloc(dst_count, sizeof(float));
    cr_assert_not_null(empty);
    Placed from = placed_make(device, src, src_count, false), to = placed_make(device, empty, dst_count, false);
    free(empty);
    VklSlice slices[VKL_SLOT_COUNT] = {{0}};
    slices[VKL_SLOT_X] = from.slice;
    slices[VKL_SLOT_Y] = to.slice;
    VklCaps caps = device->caps;
    if (window)
        caps.storage_range = 2 * (uint64_t)caps.storage_alignment + 4 * window;
    VklPlan plan;
    VklStream *stream;
    VklNarrow made = *narrow;
    made.src = vkl_array(VKL_SLOT_X, 0);
    made.dst = vkl_array(VKL_SLOT_Y, 0);
    vkl_plan_init(&plan, &caps);
    vkl_plan_narrow(&plan, &made);
    TEST_OK(context, vkl_stream_create(device, &stream));
    TEST_OK(context, vkl_exec_record_once(device, stream, &plan, slices, "test", NULL));
    TEST_OK(context, vkl_stream_wait(stream));
    vkl_stream_destroy(stream);
    float *now = placed_take(device, &from, "the source");
    cr_assert(!memcmp(now, src, src_count * sizeof(float)), "the source was written");
    free(now);
    now = placed_take(device, &to, "the result");
    vkl_buffer_destroy(from.buffer);
    vkl_buffer_destroy(to.buffer);
    return now;
}

static uint32_t half_at(const float *packed, uint64_t i)
{
    return bits_of(packed[i / 2]) >> (16 * (i % 2)) & 0xffff;
}

/* ---- Tests ---- */

Test(narrow, every_half_survives_the_way_to_a_float_and_back)
{
    enum { COUNT = 65536 };
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    float *halves = malloc(COUNT / 2 * sizeof(float));
    cr_assert_not_null(halves);
    for (uint32_t i = 0; i < COUNT / 2; i++)
        halves[i] = from_bits(2 * i | (2 * i + 1) << 16);
    float *floats = run(device, &(VklNarrow){.form = VKL_NARROW_UNPACK, .count = COUNT}, halves, COUNT / 2, COUNT, 0);
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert(is_value((double)floats[i], half_value(i)), "half %04x is %a and not %a", i, (double)floats[i], half_value(i));
    float *again = run(device, &(VklNarrow){.form = VKL_NARROW_PACK, .count = COUNT}, floats, COUNT, COUNT / 2, 0);
    for (uint32_t i = 0; i < COUNT; i++)
        cr_assert(half_at(again, i) == i || (isnan(half_value(i)) && isnan(half_value(half_at(again, i)))),
                  "half %04x became %04x", i, half_at(again, i));
    free(halves);
    free(floats);
    free(again);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* Around each half and each middle between two of them: the number itself, and the floats beside it; and any bits at all. */
static float *hard_numbers(uint64_t *count)
{
    uint64_t at = 0, random = 20001;
    float *x = malloc((6 * UINT64_C(65536) + random) * sizeof(float));
    cr_assert_not_null(x);
    for (uint32_t half = 0; half < 65536; half++) {
        double value = half_value(half), next = half_value((half & 0x7fff) < 0x7bff ? half + 1 : half);
        if (isnan(value))
            continue;
        float here = (float)value, middle = (half & 0x7fff) == 0x7bff ? copysignf(65520, here) : (float)((value + next) / 2);
        for (int beside = -1; beside <= 1 && isfinite(here); beside++) {
            x[at++] = beside ? nextafterf(here, beside < 0 ? -INFINITY : INFINITY) : here;
            x[at++] = beside ? nextafterf(middle, beside < 0 ? -INFINITY : INFINITY) : middle;
        }
    }
    uint32_t state = 1;
    for (uint64_t i = 0; i < random; i++)
        x[at++] = from_bits(state = state * 1664525u + 1013904223u);
    const float others[] = {INFINITY, -INFINITY, NAN, -NAN, from_bits(0x7f800001), 3.4e38f, -3.4e38f, 1e-45f};
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
        x[i * 5] = others[i];
    *count = at & 1 ? at : at - 1; /* odd: the last half is alone */
    return x;
}

Test(narrow, the_nearest_half_is_taken_and_the_even_one_of_two)
{
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    uint64_t count;
    float *x = hard_numbers(&count);
    float *packed = run(device, &(VklNarrow){.form = VKL_NARROW_PACK, .count = count}, x, count, (count + 1) / 2, 0);
    float *floats = run(device, &(VklNarrow){.form = VKL_NARROW_ROUND, .count = count}, x, count, count, 0);
    for (uint64_t i = 0; i < count; i++) {
        double want = rounded(x[i]);
        /* numbers that are subnormal as floats may be taken for 0, whose sign stays */
        cr_assert(is_value(half_value(half_at(packed, i)), want), "%a is packed as %a and not as %a", (double)x[i],
                  half_value(half_at(packed, i)), want);
        cr_assert(is_value((double)floats[i], want), "%a is rounded to %a and not to %a", (double)x[i], (double)floats[i], want);
    }
    cr_assert_eq(bits_of(packed[count / 2]) >> 16, 0, "something is behind the last half");
    free(x);
    free(packed);
    free(floats);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}

/* Windows cut pairs and ranges anywhere; the result is that of one dispatch. */
Test(narrow, ranges_stay_exact_and_windows_change_nothing)
{
    static const struct {
        uint64_t count, exact[2][2], window;
    } cases[] = {
        {1, {{0, 0}, {0, 0}}, 0},        {1, {{0, 1}, {0, 0}}, 0},          {17, {{3, 5}, {9, 17}}, 0},
        {257, {{0, 0}, {0, 0}}, 65},     {257, {{60, 71}, {128, 129}}, 65}, {1000, {{1, 999}, {0, 0}}, 17},
        {1001, {{0, 0}, {130, 140}}, 3},
    };
    VklContext *context = test_context();
    VklDevice *device = test_device(context);
    for (size_t n = 0; n < sizeof(cases) / sizeof(*cases); n++) {
        uint64_t count = cases[n].count;
        float *x = malloc(count * sizeof(float));
        cr_assert_not_null(x);
        test_random(x, count, (uint32_t)n, 1);
        VklNarrow narrow = {.form = VKL_NARROW_ROUND, .count = count};
        memcpy(narrow.exact, cases[n].exact, sizeof(narrow.exact));
        float *floats = run(device, &narrow, x, count, count, cases[n].window);
        for (uint64_t i = 0; i < count; i++) {
            bool exact =
                (i >= narrow.exact[0][0] && i < narrow.exact[0][1]) || (i >= narrow.exact[1][0] && i < narrow.exact[1][1]);
            cr_assert(is_value((double)floats[i], exact ? (double)x[i] : rounded(x[i])), "case %zu: [%llu] of %a is %a", n,
                      (unsigned long long)i, (double)x[i], (double)floats[i]);
        }
        narrow.form = VKL_NARROW_PACK;
        float *packed = run(device, &narrow, x, count, (count + 1) / 2, cases[n].window);
        narrow.form = VKL_NARROW_UNPACK;
        float *back = run(device, &narrow, packed, (count + 1) / 2, count, cases[n].window);
        for (uint64_t i = 0; i < count; i++)
            cr_assert(is_value((double)back[i], rounded(x[i])), "case %zu: [%llu] of %a comes back as %a", n,
                      (unsigned long long)i, (double)x[i], (double)back[i]);
        free(x);
        free(floats);
        free(packed);
        free(back);
    }
    vkl_device_destroy(device);
    vkl_context_destroy(context);
}
