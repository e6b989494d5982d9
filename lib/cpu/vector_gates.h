/* SPDX-License-Identifier: MIT
 *
 * What gates.h does, in vectors, for the activations that cells usually have; others go there.
 */
#ifndef VKL_CPU_VECTOR_GATES_H
#define VKL_CPU_VECTOR_GATES_H

#include "gates.h"
#include "vector.h"

/* value[u], and slope[u] where it is asked for, of raw[u], for u < n. */
static inline void v_gate_values(const Gate *gate, size_t n, const float *raw, float *value, float *slope)
{
    const Vec one = v_all(1.0f), two = v_all(2.0f);
    for (size_t u = 0; u < n; u += LANES) {
        Vec x = v_load_some(raw + u, n - u), scale, part, y, d;
        if (gate->kind == VKL_GATE_SIGMOID) {
            v_exp_parts(v_at_least(v_at_most(-x, v_all(87.0f)), v_all(-87.0f)), &scale, &part);
            Vec e = v_fma(scale, part, scale);
            y = one / (one + e);
            d = e * y * y;
        } else {
            const VecBits sign = (VecBits)v_all(-0.0f);
            Vec magnitude = v_at_most((Vec)((VecBits)x & ~sign), v_all(20.0f));
            v_exp_parts(magnitude + magnitude, &scale, &part);
            Vec e = v_fma(scale, part, scale), less = v_fma(scale, part, scale - one), r = one / (less + two);
            y = (Vec)((VecBits)(less * r) | ((VecBits)x & sign));
            r = two * r;
            d = e * r * r;
        }
        v_store_some(value + u, n - u, y);
        if (slope)
            v_store_some(slope + u, n - u, d);
    }
}

/* Four gates of n units that lie side by side, to arrays and back. */
static inline void v_load_gates(float *a, float *b, float *c, float *d, const float *packed, size_t n)
{
    for (size_t u = 0; u < n; u += LANES) {
        Vec in[4], out[4];
        for (size_t i = 0; i < 4; i++)
            in[i] = v_load_some(packed + 4 * u + i * LANES, 4 * (n - u) > i * LANES ? 4 * (n - u) - i * LANES : 0);
        v_split4(out, in);
        v_store_some(a + u, n - u, out[0]);
        v_store_some(b + u, n - u, out[1]);
        v_store_some(c + u, n - u, out[2]);
        v_store_some(d + u, n - u, out[3]);
    }
}

static inline void v_store_gates(float *packed, size_t n, const float *a, const float *b, const float *c, const float *d)
{
    for (size_t u = 0; u < n; u += LANES) {
        Vec in[4] = {v_load_some(a + u, n - u), v_load_some(b + u, n - u), v_load_some(c + u, n - u), v_load_some(d + u, n - u)};
        Vec out[4];
        v_join4(out, in);
        for (size_t i = 0; i < 4; i++)
            v_store_some(packed + 4 * u + i * LANES, 4 * (n - u) > i * LANES ? 4 * (n - u) - i * LANES : 0, out[i]);
    }
}

#endif
