/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_quad : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
layout(constant_id = VKL_SPEC_FORM) const uint form = VKL_GEMM_NN;
#define FORM VKL_GEMM_NN
#define WIDE
#include "gemm_quad.glsl"
