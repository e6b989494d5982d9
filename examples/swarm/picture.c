/* SPDX-License-Identifier: MIT */
#include "picture.h"

#include <stdio.h>
#include <stdlib.h>

#ifdef SWARM_PNG
#include <png.h>

const bool picture_available = true;

bool picture_write(const char *directory, const char *name, uint32_t width, uint32_t height, const uint8_t *rgba)
{
    char path[4096];
    png_image image = {.version = PNG_IMAGE_VERSION, .width = width, .height = height, .format = PNG_FORMAT_RGB};
    uint8_t *rgb = malloc((size_t)width * height * 3);
    if (!rgb || snprintf(path, sizeof(path), "%s/%s.png", directory, name) >= (int)sizeof(path)) {
        free(rgb);
        return false;
    }
    for (size_t i = 0; i < (size_t)width * height; i++)
        for (size_t k = 0; k < 3; k++)
            rgb[3 * i + k] = rgba[4 * i + k];
    bool ok = png_image_write_to_file(&image, path, 0, rgb, 0, NULL) != 0;
    if (!ok)
        fprintf(stderr, "%s: %s\n", path, image.message);
    free(rgb);
    return ok;
}
#else
const bool picture_available = false;

bool picture_write(const char *directory, const char *name, uint32_t width, uint32_t height, const uint8_t *rgba)
{
    (void)directory, (void)name, (void)width, (void)height, (void)rgba;
    return false;
}
#endif
