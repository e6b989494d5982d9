/* SPDX-License-Identifier: MIT
 *
 * Advancing the step state, a buffer of uint in which floats are stored as bits. A shader that includes this has declared the
 * buffer as `state`.
 */
void state_advance(uint base, float beta1, float one_minus_beta1, float beta2, float one_minus_beta2)
{
    float bias1 = uintBitsToFloat(state[base + VKL_STATE_BIAS1]);
    float bias2 = uintBitsToFloat(state[base + VKL_STATE_BIAS2]);
    state[base + VKL_STATE_STEP] += 1u;
    state[base + VKL_STATE_BIAS1] = floatBitsToUint(beta1 * bias1 + one_minus_beta1);
    state[base + VKL_STATE_BIAS2] = floatBitsToUint(beta2 * bias2 + one_minus_beta2);
    state[base + VKL_STATE_CLIP] = floatBitsToUint(1.0);
}
