/* SPDX-License-Identifier: MIT
 *
 * Between floats and halves, in whole numbers: packHalf2x16() may round as it likes, and does so differently from chip to chip.
 */
#define HALF_FIRST_NORMAL 0x38800000u /* 2^-14 as a float */
#define HALF_OVERFLOW 0x477ff000u     /* 65,520, from where on the nearest half is infinite */
#define FLOAT_INFINITY 0x7f800000u

uint half_of(uint bits)
{
    uint sign = (bits >> 16) & 0x8000u, size = bits & 0x7fffffffu;
    if (size > FLOAT_INFINITY)
        return sign | 0x7e00u;
    if (size >= HALF_OVERFLOW)
        return sign | 0x7c00u;
    if (size >= HALF_FIRST_NORMAL)
        return sign | ((size + 0xfffu + ((size >> 13) & 1u) - 0x38000000u) >> 13);
    if (size < 0x33000000u) /* 2^-25, half of the smallest one */
        return sign;
    uint shift = 126u - (size >> 23), digits = (size & 0x7fffffu) | 0x800000u;
    uint half_bits = digits >> shift, rest = digits & ((1u << shift) - 1u), tie = 1u << (shift - 1u);
    return sign | (half_bits + (rest > tie || (rest == tie && (half_bits & 1u) != 0u) ? 1u : 0u));
}

uint float_of(uint half_bits)
{
    uint sign = (half_bits & 0x8000u) << 16, exponent = (half_bits >> 10) & 31u, digits = half_bits & 0x3ffu;
    if (exponent == 31u)
        return sign | FLOAT_INFINITY | (digits << 13);
    if (exponent == 0u)
        return sign | floatBitsToUint(float(digits) * 5.9604644775390625e-8); /* 2^-24 */
    return sign | ((exponent + 112u) << 23) | (digits << 13);
}
