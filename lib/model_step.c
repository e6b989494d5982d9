/* SPDX-License-Identifier: MIT
 *
 * Steps of agents through a model. */
#include "model.h"
#include "plan_agents.h"

VklModelStep vkl_model_step_args(uint64_t N)
{
    VklModelStep args = {.struct_size = sizeof(args)};
    args.N = N;
    return args;
}

static VklStatus check_model(VklModel *model, const char *call, uint64_t N)
{
    if (!N || N > UINT32_MAX)
        return vkl_fail(model->device->context, &model->error, N ? VKL_ERROR_LIMIT : VKL_ERROR_INVALID,
                        "%s: N is %llu; it must be from 1 to %u", call, (unsigned long long)N, UINT32_MAX);
    for (uint32_t i = 0; i < model->network.count; i++)
        if (model->descs[i].both)
            return vkl_fail(model->device->context, &model->error, VKL_ERROR_UNSUPPORTED,
                            "%s: layer %u has both directions; a single step has no time to go back in", call, i);
    return VKL_OK;
}

static VklAgents agents_of(const VklModel *model, uint64_t N, bool reset, bool count)
{
    return (VklAgents){.network = &model->network,
                       .N = N,
                       .params = vkl_array(VKL_SLOT_PARAMS, 0),
                       .x = vkl_array(VKL_SLOT_X, 0),
                       .y = vkl_array(VKL_SLOT_Y, 0),
                       .state = vkl_array(VKL_SLOT_STATE, 0),
                       .reset = reset ? vkl_array(VKL_SLOT_RESET, 0) : VKL_NO_ARRAY,
                       .count = count ? vkl_array(VKL_SLOT_AGENTS, 0) : VKL_NO_ARRAY,
                       .workspace = vkl_array(VKL_SLOT_WORKSPACE, 0)};
}

static VklStatus plan_step(VklModel *model, const char *call, VklAgents *agents, VklPlan *plan)
{
    vkl_plan_init(plan, &model->device->caps);
    if (!vkl_plan_agents(plan, agents))
        vkl_plan_fail(plan, VKL_ERROR_LIMIT, "the arrays of %llu agents do not fit 63 bits", (unsigned long long)agents->N);
    if (!plan->status)
        return VKL_OK;
    VklStatus status = vkl_fail(model->device->context, &model->error, plan->status, "%s: %s", call, plan->error);
    vkl_plan_finish(plan);
    return status;
}

VklStatus vkl_model_step_sizes(VklModel *model, uint64_t N, VklModelStepSizes *sizes)
{
    const char *call = "vkl_model_step_sizes";
    VklPlan plan;
    VklAgents agents = agents_of(model, N, true, true);
    VklStatus status = vkl_check_struct(model->device->context, &model->error, call, "its struct", sizes, sizeof(*sizes));
    status = status ? status : check_model(model, call, N);
    status = status ? status : plan_step(model, call, &agents, &plan);
    if (status)
        return status;
    sizes->params = 4 * model->network.params;
    sizes->x = 4 * N * model->network.features;
    sizes->y = 4 * N * model->network.outputs;
    sizes->state = 4 * agents.state_floats;
    sizes->workspace = plan.slot_size[VKL_SLOT_WORKSPACE];
    vkl_plan_finish(&plan);
    return VKL_OK;
}

/* What a call binds. Without params, the device has the latest of the model's own. */
static VklStatus bind(VklModel *model, const char *call, const VklModelStep *args, VklSlice slots[VKL_SLOT_COUNT])
{
    VklStatus status = vkl_check_struct(model->device->context, &model->error, call, "its struct", args, sizeof(*args));
    status = status ? status : check_model(model, call, args->N);
    if (status)
        return status;
    memset(slots, 0, VKL_SLOT_COUNT * sizeof(*slots));
    slots[VKL_SLOT_PARAMS] = args->params.buffer ? args->params : vkl_slice(model->params, 0);
    slots[VKL_SLOT_X] = args->x;
    slots[VKL_SLOT_Y] = args->y;
    slots[VKL_SLOT_STATE] = args->state;
    slots[VKL_SLOT_RESET] = args->reset;
    slots[VKL_SLOT_AGENTS] = args->count;
    slots[VKL_SLOT_WORKSPACE] = args->workspace;
    return args->params.buffer ? VKL_OK : vkl_model_sync(model);
}

static VklStatus prepare(VklModel *model, const char *call, const VklModelStep *args, const VklSlice slots[VKL_SLOT_COUNT],
                         VklExec **exec)
{
    VklPlan plan;
    VklAgents agents = agents_of(model, args->N, args->reset.buffer, args->count.buffer);
    VklStatus status = plan_step(model, call, &agents, &plan);
    return status ? status : vkl_exec_create(model->device, &plan, slots, call, &model->error, exec);
}

/* What a call is known by in the cache, as in rnn.c. */
typedef struct Call {
    uint64_t N;
    struct {
        uint64_t id, offset;
    } slots[VKL_SLOT_COUNT];
} Call;

VklStatus vkl_model_step(VklModel *model, VklStream *stream, const VklModelStep *args)
{
    const char *name = "vkl_model_step";
    VklSlice slots[VKL_SLOT_COUNT];
    if (!stream || stream->device != model->device)
        return vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "%s: stream %s", name,
                        stream ? "belongs to another device" : "is NULL");
    VklStatus status = bind(model, name, args, slots);
    if (status)
        return status;
    Call key;
    memset(&key, 0, sizeof(key));
    key.N = args->N;
    for (int slot = 0; slot < VKL_SLOT_COUNT; slot++)
        if (slots[slot].buffer) {
            key.slots[slot].id = vkl_buffer_key(model->device, slots[slot].buffer);
            key.slots[slot].offset = slots[slot].offset;
        }
    VklExec *exec = vkl_exec_cache_find(model->device->context, &model->steps, &key, sizeof(key));
    if (!exec) {
        status = prepare(model, name, args, slots, &exec);
        if (status)
            return status;
        vkl_exec_cache_add(model->device->context, &model->steps, &key, sizeof(key), exec);
    }
    status = vkl_exec_record(exec, stream);
    vkl_exec_release(exec);
    return status ? vkl_fail_again(&model->error, status) : VKL_OK;
}

VklStatus vkl_model_prepare_step(VklModel *model, const VklModelStep *args, VklExec **exec)
{
    const char *name = "vkl_model_prepare_step";
    VklSlice slots[VKL_SLOT_COUNT];
    VklStatus status = bind(model, name, args, slots);
    return status ? status : prepare(model, name, args, slots, exec);
}

VklStatus vkl_model_params(VklModel *model, VklSlice *params, uint64_t *size)
{
    if (!params || !size)
        return vkl_fail(model->device->context, &model->error, VKL_ERROR_INVALID, "vkl_model_params: %s is NULL",
                        params ? "size" : "params");
    VklStatus status = vkl_model_sync(model);
    if (status)
        return status;
    *params = vkl_slice(model->params, 0);
    *size = 4 * model->network.params;
    return VKL_OK;
}
