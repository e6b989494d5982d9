/* SPDX-License-Identifier: MIT
 *
 * From a CSV file to a forecast: trains an LSTM on the airline passengers and prints the year after the last one.
 * Usage: forecast data/airpassengers.csv [auto|cpu|vulkan] */
#include <stdio.h>

#include <vklstm/vklstm.h>

static void print(void *user, VklLogLevel level, const char *message)
{
    (void)user, (void)level;
    fprintf(stderr, "%s\n", message);
}

int main(int argc, char **argv)
{
    VklContext *context = NULL;
    VklDevice *device = NULL;
    VklTable *table = NULL;
    VklPrep *prep = NULL;
    VklWindowSet *windows = NULL;
    VklModel *model = NULL;
    VklLayerDesc layers[] = {vkl_layer_lstm(50), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    double year[12];

    VklContextDesc context_desc = vkl_context_desc();
    context_desc.log = print; /* every failure below says what is wrong */
    VklDeviceDesc device_desc = vkl_device_desc(argc > 2 ? argv[2] : "auto");
    VklPrepDesc prep_desc = vkl_prep_desc("passengers");
    prep_desc.window = 13;
    prep_desc.log = true;
    prep_desc.difference = 12;
    prep_desc.test_split = 0;
    VklFitDesc fit = vkl_fit_desc();
    fit.batch_size = 16;

    bool ok = !vkl_context_create(&context_desc, &context) && !vkl_device_create(context, &device_desc, &device) &&
              !vkl_table_read_csv(context, argc > 1 ? argv[1] : "data/airpassengers.csv", &table) &&
              !vkl_prep_create(context, table, &prep_desc, &prep) && !vkl_prep_windows(prep, table, VKL_PART_TRAIN, &windows) &&
              !vkl_model_create(device, vkl_prep_features(prep), layers, 2, 1, &model) &&
              !vkl_model_fit(model, &windows->windows, NULL, &fit, NULL) && !vkl_prep_forecast(prep, table, model, 12, year) &&
              !vkl_model_save(model, prep, "airpassengers.safetensors");
    for (int month = 0; ok && month < 12; month++)
        printf("1961-%02d,%.0f\n", month + 1, year[month]);

    vkl_model_destroy(model);
    vkl_window_set_destroy(windows);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    return !ok;
}
