/* SPDX-License-Identifier: MIT */
#include "stored.h"

#include <string.h>

#include "message.h"

int stored_open(Stored *stored, const char *device, const char *model, const char *data)
{
    memset(stored, 0, sizeof *stored);
    int status = session_open(&stored->session);
    if (status != EXIT_OK)
        return status;
    VklContext *context = stored->session.context;
    VklStatus read = vkl_table_read_csv(context, data, &stored->table);
    if (read != VKL_OK)
        return fail_library(context, read);
    status = session_open_device(&stored->session, device);
    if (status != EXIT_OK)
        return status;
    read = vkl_model_load(stored->session.device, model, &stored->model, &stored->prep);
    if (read != VKL_OK)
        return fail_library(context, read);
    if (!stored->prep)
        return fail("%s has no description of its data: it was not written by 'vklstm train'", model);
    if (vkl_model_outputs(stored->model) != 1)
        return fail("%s has %llu outputs; a forecast is 1 value", model, (unsigned long long)vkl_model_outputs(stored->model));
    if (vkl_model_features(stored->model) != vkl_prep_features(stored->prep))
        return fail("%s disagrees with itself: the network has %llu features, the description of its data %llu", model,
                    (unsigned long long)vkl_model_features(stored->model), (unsigned long long)vkl_prep_features(stored->prep));
    return EXIT_OK;
}

void stored_close(Stored *stored)
{
    vkl_model_destroy(stored->model);
    vkl_prep_destroy(stored->prep);
    vkl_table_destroy(stored->table);
    session_close(&stored->session);
}
