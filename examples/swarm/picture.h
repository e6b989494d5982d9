/* SPDX-License-Identifier: MIT */
#ifndef SWARM_PICTURE_H
#define SWARM_PICTURE_H

#include <stdbool.h>
#include <stdint.h>

extern const bool picture_available; /* built with libpng */

/* Writes RGBA bytes, without the A, as DIR/NAME.png. */
bool picture_write(const char *directory, const char *name, uint32_t width, uint32_t height, const uint8_t *rgba);

#endif
