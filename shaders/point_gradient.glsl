/* SPDX-License-Identifier: MIT
 *
 * The gradient of h that the backward POINT kernels begin with, and what of it goes to h before the step. A shader that includes this has
 * declared the buffer `gy` and `side` writable.
 */
float gradient_of_h(uint row, uint unit)
{
    float dh = 0.0;
    if (args.gy_ld != VKL_ABSENT)
        dh = gy[args.off2 + row * args.gy_ld + unit];
    if (args.rec != VKL_ABSENT)
        dh += side_at(args.rec + row * args.rec_ld + unit);
    if (args.carry != VKL_ABSENT)
        dh += side_at(args.carry + row * args.units + unit);
    return dh;
}

void put_carry(uint index, float carry)
{
    if (args.carry != VKL_ABSENT)
        side[args.off3 + args.carry + index] = floatBitsToUint(carry);
}
