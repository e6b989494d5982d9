/* SPDX-License-Identifier: MIT
 *
 * Contexts know nothing of each other: each thread has one of its own, with a device and everything else, and no lock. */
#include "threads.h"

enum { THREADS = 4 };

static Expected expected = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void part(void *data, int index)
{
    (void)data;
    const int rounds = strcmp(device_selector(), "cpu") ? 1 : 10;
    for (int round = 0; round < rounds; round++) {
        VklContextDesc desc = vkl_context_desc();
        VklDeviceDesc device_desc = vkl_device_desc(device_selector());
        VklContext *context = NULL;
        VklDevice *device = NULL;
        VklStream *stream = NULL;
        VklRnn *rnn = NULL;
        desc.threads = index % 2 ? 3 : 1;
        OK(vkl_context_create(&desc, &context));
        uint32_t count = 0;
        OK(vkl_device_list(context, &count, NULL));
        OK(vkl_device_create(context, &device_desc, &device));
        OK(vkl_stream_create(device, &stream));
        VklRnnDesc layer = vkl_rnn_desc(VKL_CELL_LSTM, INPUTS, UNITS);
        OK(vkl_rnn_create(device, &layer, &rnn));
        Pass pass = pass_of(device, rnn, stream);
        OK(vkl_rnn_forward(rnn, stream, &pass.forward));
        check_pass(&expected, stream, &pass);
        layer.hidden_size = 0;
        VklRnn *none = NULL;
        CHECK(vkl_rnn_create(device, &layer, &none) == VKL_ERROR_INVALID, "hidden_size 0");
        CHECK(strstr(vkl_context_error(context), "hidden_size"), "%s", vkl_context_error(context));
        fit_model(device, index % 2 ? "lstm:5,dense:1" : "gru:4,dense:1", 2);
        pass_finish(&pass);
        vkl_rnn_destroy(rnn);
        vkl_stream_destroy(stream);
        vkl_device_destroy(device);
        vkl_context_destroy(context);
    }
}

int main(void)
{
    run_threads(THREADS, part, NULL);
    return 0;
}
