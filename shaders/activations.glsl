/* SPDX-License-Identifier: MIT
 *
 * tanh, the logistic sigmoid and relu. Drivers' own tanh() gives NaN for large arguments (SwiftShader at |x| >= 89), and their
 * clamp(), min() and max() turn NaN into a number, which makes a broken training look healthy. So limits are comparisons, and NaN is
 * recognised by its bits, which no compiler may assume away. lib/cpu/activations.h is the same, formula by formula.
 */

/* VklActivation and VklLoss of the public headers; the numbers are pinned there. */
#define ACTIVATION_NONE 0
#define ACTIVATION_TANH 1
#define ACTIVATION_SIGMOID 2
#define ACTIVATION_RELU 3

bool is_nan(float x)
{
    return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u;
}

/* e^x = scale (1 + part) for |x| <= 87: x = n ln 2 + r with n whole, scale = 2^n, part = e^r - 1 by its Taylor series, whose first
 * term left out is below 2^-25 for |r| <= ln 2 / 2. Keeping the 1 apart is what makes tanh accurate near 0. */
void exp_parts(float x, out float scale, out float part)
{
    float n = roundEven(x * 1.44269504);
    /* ln 2 in two pieces: n times the first is exact */
    float r = (x - n * 0.693359375) + n * 2.12194440e-4;
    float series = 1.0 / 5040.0;
    series = series * r + 1.0 / 720.0;
    series = series * r + 1.0 / 120.0;
    series = series * r + 1.0 / 24.0;
    series = series * r + 1.0 / 6.0;
    series = series * r + 0.5;
    part = series * (r * r) + r;
    scale = uintBitsToFloat(uint(int(n) + 127) << 23);
}

float cell_tanh(float x)
{
    float magnitude = uintBitsToFloat(floatBitsToUint(x) & 0x7fffffffu);
    magnitude = magnitude > 20.0 ? 20.0 : magnitude;
    float scale, part;
    exp_parts(2.0 * magnitude, scale, part);
    float e = scale * part + (scale - 1.0); /* e^2|x| - 1 */
    float t = e / (e + 2.0);
    t = uintBitsToFloat(floatBitsToUint(t) | (floatBitsToUint(x) & 0x80000000u));
    return is_nan(x) ? x : t;
}

float cell_sigmoid(float x)
{
    float y = -x;
    y = y > 87.0 ? 87.0 : y;
    y = y < -87.0 ? -87.0 : y;
    float scale, part;
    exp_parts(y, scale, part);
    float s = 1.0 / (1.0 + (scale * part + scale));
    return is_nan(x) ? x : s;
}

float activate(uint activation, float x)
{
    if (activation == ACTIVATION_TANH)
        return cell_tanh(x);
    if (activation == ACTIVATION_SIGMOID)
        return cell_sigmoid(x);
    if (activation == ACTIVATION_RELU)
        return x > 0.0 || is_nan(x) ? x : 0.0;
    return x;
}

/* The derivative of the activation, from its value y, times the gradient of y. */
float activate_backward(uint activation, float gy, float y)
{
    if (activation == ACTIVATION_TANH)
        return gy * (1.0 - y * y);
    if (activation == ACTIVATION_SIGMOID)
        return gy * (y * (1.0 - y));
    if (activation == ACTIVATION_RELU)
        return is_nan(y) ? y : y > 0.0 ? gy : 0.0;
    return gy;
}
