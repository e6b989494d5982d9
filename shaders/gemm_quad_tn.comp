/* SPDX-License-Identifier: MIT */
#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_quad : require
#define VKL_GLSL
#include "interface.h"
#include "activations.glsl"
#define FORM VKL_GEMM_TN
#include "gemm_quad.glsl"
