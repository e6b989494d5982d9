/* SPDX-License-Identifier: MIT
 *
 * A window that shows the picture. Without GLFW, or without a display, window_open() returns NULL; the program does not need one. */
#ifndef SWARM_WINDOW_H
#define SWARM_WINDOW_H

#include "gpu.h"

typedef struct Window Window;

Window *window_open(uint32_t width, uint32_t height);
const char *const *window_extensions(uint32_t *count); /* of the instance */
void window_attach(Window *window, Gpu *gpu);          /* once there is a device */
bool window_poll(Window *window);                      /* false: it was closed */
/* Takes the next image of the screen; records a copy of the picture, which is VK_IMAGE_LAYOUT_TRANSFER_SRC_OPTIMAL, into it. `slot`: of two
 * frames in flight. */
void window_record(Window *window, uint32_t slot, VkCommandBuffer commands, const Image *picture);
/* What the frame's submit waits for and signals. */
VkSemaphore window_acquired(Window *window, uint32_t slot);
VkSemaphore window_drawn(Window *window);
void window_present(Window *window);
void window_close(Window *window); /* the device must be idle */

#endif
