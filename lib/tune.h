/* SPDX-License-Identifier: MIT
 *
 * What plans know of a device, and the choices made from it: which kernel, in which shape, by which way through a layer. Pure functions of
 * VklCaps and sizes, so that tests/test_tune.c can have a table of them for devices that nobody here owns.
 */
#ifndef VKL_TUNE_H
#define VKL_TUNE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels.h"
#include "memory.h"

/* Devices that want the same kernels. */
typedef enum VklArch {
    VKL_ARCH_HOST,     /* the CPU backend */
    VKL_ARCH_SOFTWARE, /* a CPU behind Vulkan: no use for shared memory, barriers cost */
    VKL_ARCH_GPU       /* any other */
} VklArch;

typedef struct VklCaps {
    VklArch arch;
    uint64_t storage_range;     /* bytes */
    uint32_t storage_alignment; /* bytes, a power of two, at least 4 */
    uint32_t storage_buffers;   /* of one kernel */
    uint32_t workgroups[3];
    uint32_t workgroup_invocations, shared_memory;
    uint32_t workgroup;                  /* invocations of a linear workgroup */
    uint32_t vendor;                     /* PCI id, or what Khronos has given: VKL_VENDOR_AMD ... */
    uint32_t subgroup_min, subgroup_max; /* sizes that a pipeline can ask for; equal: it has no choice */
    uint32_t lanes;                      /* of a subgroup that shuffles, where no size is asked for; 0: it does not */
    uint32_t cooperative[3];             /* rows, columns, depth of cooperative matrices of halves; 0: none */
    uint32_t processors;                 /* of the host, where the device runs on them */
    uint32_t parallel;                   /* invocations that keep the device busy: a guess from its type */
    double submit_cost;                  /* of the work of one submit, as vkl_op_cost() counts; 0: any */
    const VklHostMemory *memory;         /* for plans; NULL: the C library */
} VklCaps;

#define VKL_VENDOR_AMD 0x1002u
#define VKL_VENDOR_INTEL 0x8086u
#define VKL_VENDOR_NVIDIA 0x10deu
#define VKL_VENDOR_QUALCOMM 0x5143u

/* The shape of a tiled product; spec: all constants but the form and VARIANT. */
typedef struct VklGemmShape {
    uint32_t spec[VKL_SPEC_COUNT];
    uint64_t slices, slice_k; /* slices 1: GEMM; more: GEMM_SPLIT and GEMM_REDUCE */
} VklGemmShape;

#define VKL_GEMM_TILE_LEAST 32 /* rows and columns of the smallest */

/* For C [m][n] of sums of k terms, with scratch for `scratch` numbers; wide: A and B are read by four. More than VKL_GEMM_MAX_K terms
 * need scratch for m n numbers each that many terms. */
VklGemmShape vkl_tune_gemm(const VklCaps *caps, uint64_t m, uint64_t n, uint64_t k, uint64_t scratch, bool wide);

/* How many numbers of scratch any device can make use of for a product of that size, or for smaller ones with as many terms: 1 MiB at most. */
uint64_t vkl_tune_gemm_scratch(uint64_t m, uint64_t n, uint64_t k);

/* Of a product on a device that is a CPU. */
typedef struct VklDirectShape {
    VklKernel kernel;
    uint32_t spec[VKL_SPEC_COUNT]; /* GEMM_LANES and GEMM_QUAD_*: ROWS, COLUMNS and the workgroup; GEMM_DIRECT has none */
} VklDirectShape;

VklDirectShape vkl_tune_direct(const VklCaps *caps, uint32_t form, uint64_t m, uint64_t n);
/* Whether products are best left to GEMM_QUAD_*, recurrent ones as well. */
bool vkl_tune_quad(const VklCaps *caps);
/* Of a step of an LSTM whose product and cell are one call there; ROWS as above. False where the product is better as a call of its own. */
bool vkl_tune_quad_step(const VklCaps *caps, uint64_t rows, uint64_t units, VklDirectShape *shape);
/* Whether a layer with a single time step is best one call of LSTM_ONCE. */
bool vkl_tune_once(const VklCaps *caps, uint64_t rows, uint64_t units, uint64_t inputs);
/* Terms of its sums that one op should take. */
uint64_t vkl_tune_direct_terms(const VklCaps *caps, uint32_t form, uint64_t k);

/* The same with cooperative matrices; false where there are none, or where they do not pay. */
bool vkl_tune_gemm_coop(const VklCaps *caps, uint64_t m, uint64_t n, uint64_t k, uint64_t scratch, VklGemmShape *shape);

/* Which kernel does many time steps of a layer at once, and in which shape. */
typedef struct VklSequenceShape {
    VklKernel kernel;
    uint32_t spec[VKL_SPEC_COUNT]; /* all but the form */
    uint64_t group_rows;           /* rows of the batch that a workgroup does */
    uint64_t steps;                /* time steps of one dispatch, at most */
    uint64_t unit_groups;          /* workgroups that divide the units, if it is one step; 0: no such thing */
} VklSequenceShape;

/* Of a layer's forward or backward pass, for rows x units; `cell` is VKL_SEQUENCE_LSTM ... False where the device has no such kernel for that
 * size. `pays`: whether it is faster than a dispatch for each step. */
bool vkl_tune_sequence(const VklCaps *caps, uint32_t cell, uint64_t rows, uint64_t units, bool backward, VklSequenceShape *shape,
                       bool *pays);

/* The shape of a step kernel: how many rows of the batch and units an invocation computes, among how many its sums are cut. */
typedef struct VklStepSize {
    uint64_t rows, units, k, gates; /* k: terms of the product; gates: columns of each unit */
    bool wide;                      /* the columns of four units can be read at once */
    bool interleaved;
    bool backward;
    bool usual; /* the cell's usual activations */
} VklStepSize;

typedef struct VklStepShape {
    uint32_t workgroup, rows, units, slices;
} VklStepShape;

/* AGENTS_FORWARD: false where the device cannot; `pays`: faster than what goes through several dispatches. */
typedef struct VklAgentsShape {
    uint32_t workgroup, fours;
} VklAgentsShape;
bool vkl_tune_agents(const VklCaps *caps, uint64_t rows, uint64_t units, uint64_t inputs, VklAgentsShape *shape, bool *pays);

/* A step of each of several layers in one dispatch. */
typedef struct VklWaveSize {
    uint64_t rows, units, gates;
    bool interleaved, backward;
} VklWaveSize;

/* As vkl_tune_step(), always with one unit. */
bool vkl_tune_wave(const VklCaps *caps, const VklWaveSize *size, VklStepShape *shape);

/* False where the device cannot: it has fewer bindings, or the sums are too long for it. `pays`: faster than product and cell apart. */
bool vkl_tune_step(const VklCaps *caps, const VklStepSize *size, VklStepShape *shape, bool *pays);

#endif
