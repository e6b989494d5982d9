/* SPDX-License-Identifier: MIT */
#include "init.h"

#include <math.h>

#include "philox.h"

static void philox(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t counter)
{
    out[0] = (uint32_t)counter;
    out[1] = (uint32_t)(counter >> 32);
    out[2] = (uint32_t)stream;
    out[3] = (uint32_t)(stream >> 32);
    vkl_philox(out, (uint32_t)seed, (uint32_t)(seed >> 32));
}

VklRandom vkl_random(uint64_t seed, uint64_t stream)
{
    return (VklRandom){.seed = seed, .stream = stream};
}

uint32_t vkl_random_u32(VklRandom *random)
{
    if (random->next % 4 == 0)
        philox(random->block, random->seed, random->stream, random->next / 4);
    return random->block[random->next++ % 4];
}

double vkl_random_uniform(VklRandom *random)
{
    uint64_t high = vkl_random_u32(random) >> 5, low = vkl_random_u32(random) >> 6;
    return (double)(high << 26 | low) * 0x1p-53;
}

double vkl_random_normal(VklRandom *random)
{
    double radius = sqrt(-2 * log(1 - vkl_random_uniform(random))); /* Box and Muller 1958 */
    return radius * cos(6.283185307179586 * vkl_random_uniform(random));
}

uint64_t vkl_seed_part(uint64_t seed, uint64_t index)
{
    uint32_t block[4];
    philox(block, seed, UINT64_C(0x706172740000), index);
    return (uint64_t)block[0] << 32 | block[1];
}

void vkl_shuffle(uint32_t *order, uint32_t count, uint64_t seed, uint64_t epoch)
{
    VklRandom random = vkl_random(seed, epoch);
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count; i > 1; i--) { /* Fisher and Yates */
        uint32_t other = (uint32_t)((uint64_t)vkl_random_u32(&random) * i >> 32);
        uint32_t kept = order[i - 1];
        order[i - 1] = order[other];
        order[other] = kept;
    }
}

void vkl_init_glorot(float *weight, uint64_t rows, uint64_t columns, uint64_t seed)
{
    VklRandom random = vkl_random(seed, 0);
    double limit = sqrt(6.0 / ((double)rows + (double)columns));
    for (uint64_t i = 0; i < rows * columns; i++)
        weight[i] = (float)((2 * vkl_random_uniform(&random) - 1) * limit);
}

/* v -= (v . u) u */
static void project_out(double *v, const double *u, uint64_t count)
{
    double dot = 0;
    for (uint64_t i = 0; i < count; i++)
        dot += v[i] * u[i];
    for (uint64_t i = 0; i < count; i++)
        v[i] -= dot * u[i];
}

bool vkl_init_orthogonal(const VklHostMemory *memory, float *weight, uint64_t rows, uint64_t columns, uint64_t seed)
{
    uint64_t vectors = columns < rows ? columns : rows, length = columns < rows ? rows : columns;
    double *basis = vkl_allocate(memory, vectors * length, sizeof(*basis)); /* [vectors][length] */
    if (!basis)
        return false;
    VklRandom random = vkl_random(seed, 0);
    for (uint64_t i = 0; i < vectors * length; i++)
        basis[i] = vkl_random_normal(&random);
    for (uint64_t vector = 0; vector < vectors; vector++) {
        double *v = basis + vector * length, square = 0;
        for (int pass = 0; pass < 2; pass++) /* Gram and Schmidt, twice for accuracy */
            for (uint64_t before = 0; before < vector; before++)
                project_out(v, basis + before * length, length);
        for (uint64_t i = 0; i < length; i++)
            square += v[i] * v[i];
        for (uint64_t i = 0; i < length; i++)
            weight[columns < rows ? i * columns + vector : vector * columns + i] = (float)(v[i] / sqrt(square));
        for (uint64_t i = 0; i < length; i++)
            v[i] /= sqrt(square);
    }
    vkl_release(basis);
    return true;
}
