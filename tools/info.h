/* SPDX-License-Identifier: MIT
 *
 * A device in words, as info lists it.
 */
#ifndef VKLSTM_TOOLS_INFO_H
#define VKLSTM_TOOLS_INFO_H

#include <jansson.h>

#include "vklstm/vklstm.h"

void info_print_device(const VklDeviceInfo *info);
/* NULL: out of memory. */
json_t *info_device_json(const VklDeviceInfo *info);

#endif
