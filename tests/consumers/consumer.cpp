/* SPDX-License-Identifier: MIT
 *
 * consumer.c in C++11: all of the public headers, objects in smart pointers, and a layer that runs. */
#if defined(__has_include)
#if __has_include(<vulkan/vulkan_core.h>) && __has_include(<vklstm/vulkan.h>)
#include <vklstm/vulkan.h>
#endif
#endif
#include <vklstm/vklstm.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <vector>

namespace {

template <typename T> using Owned = std::unique_ptr<T, void (*)(T *)>;

int fail(const char *sentence)
{
    std::fprintf(stderr, "%s\n", sentence);
    return 1;
}

} // namespace

int main()
{
    VklContext *made_context = nullptr;
    if (vkl_context_create(nullptr, &made_context) != VKL_OK)
        return fail("no context");
    Owned<VklContext> context(made_context, vkl_context_destroy);

    VklDevice *made_device = nullptr;
    const VklDeviceDesc device_desc = vkl_device_desc("cpu");
    if (vkl_device_create(context.get(), &device_desc, &made_device) != VKL_OK)
        return fail(vkl_context_error(context.get()));
    Owned<VklDevice> device(made_device, vkl_device_destroy);

    const VklLayerDesc layers[] = {vkl_layer_lstm(8), vkl_layer_dense(1, VKL_ACTIVATION_NONE)};
    VklModel *made_model = nullptr;
    if (vkl_model_create(device.get(), 1, layers, 2, 1, &made_model) != VKL_OK)
        return fail(vkl_context_error(context.get()));
    Owned<VklModel> model(made_model, vkl_model_destroy);

    std::vector<float> series(24);
    for (std::size_t t = 0; t < series.size(); t++)
        series[t] = static_cast<float>(t) / 24;
    const std::uint32_t start = 0;
    VklWindows windows = VklWindows();
    windows.struct_size = sizeof(windows);
    windows.series = series.data();
    windows.starts = &start;
    windows.count = 1;
    windows.rows = windows.steps = series.size();
    windows.features = windows.outputs = 1;
    float prediction = NAN;
    if (vkl_model_predict(model.get(), &windows, &prediction) != VKL_OK)
        return fail(vkl_context_error(context.get()));
    std::printf("vklstm %s, from C++: %g\n", vkl_version(), static_cast<double>(prediction));
    return std::isfinite(prediction) ? 0 : 1;
}
