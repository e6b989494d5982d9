/* SPDX-License-Identifier: MIT
 *
 * A CSV to a forecast: forecast FILE.csv COLUMN [DEVICE]
 */
#include <stdio.h>
#include <stdlib.h>
#include <vklstm/vklstm.h>

#define TRY(call)                                                                    \
    if ((call) != VKL_OK) {                                                          \
        fprintf(stderr, "%s\n", context ? vkl_context_error(context) : "no memory"); \
        return EXIT_FAILURE;                                                         \
    }

int main(int argc, char **argv)
{
    VklContext *context = NULL;
    VklDevice *device;
    VklTable *table;
    VklPrep *prep;
    VklWindowSet *train;
    VklModel *model;
    if (argc < 3)
        return EXIT_FAILURE;

    TRY(vkl_context_create(NULL, &context));
    VklDeviceDesc where = vkl_device_desc(argc > 3 ? argv[3] : "auto");
    TRY(vkl_device_create(context, &where, &device));

    TRY(vkl_table_read_csv(context, argv[1], &table));
    VklPrepDesc how = vkl_prep_desc(argv[2]);
    how.window = 13;
    how.log = true;
    how.difference = 1;
    how.test_split = 0;
    TRY(vkl_prep_create(context, table, &how, &prep));
    TRY(vkl_prep_windows(prep, table, VKL_PART_TRAIN, &train));

    VklLayerDesc layers[] = {vkl_layer_lstm(50), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    TRY(vkl_model_create(device, vkl_prep_features(prep), layers, 2, 1, &model));
    VklFitDesc fit = vkl_fit_desc();
    fit.batch_size = 16;
    VklFitResult result;
    TRY(vkl_model_fit(model, &train->windows, NULL, &fit, &result));
    printf("loss %g after %g s\n", result.loss, result.seconds);

    double values[12];
    TRY(vkl_prep_forecast(prep, table, model, 12, values));
    for (int i = 0; i < 12; i++)
        printf("%g\n", values[i]);

    vkl_model_destroy(model);
    vkl_window_set_destroy(train);
    vkl_prep_destroy(prep);
    vkl_table_destroy(table);
    vkl_device_destroy(device);
    vkl_context_destroy(context);
    return EXIT_SUCCESS;
}
