/* SPDX-License-Identifier: MIT
 *
 * Training that is interrupted and goes on: everything that the next step depends on, in a model file that holds more.
 * docs/model-file.md describes it.
 *
 * What follows from the description is not in it: the order of an epoch and the masks of dropout are functions of seeds and
 * counters. Nor is anything that says where a kernel reads or writes: such counters are computed from the number of batches,
 * which is checked. */
#include <math.h>
#include <stdio.h>

#include "file.h"
#include "fit.h"
#include "init.h"
#include "io.h"
#include "optimizer.h"

/* ---- What training depends on ---- */

typedef struct Condition {
    const char *name;
    char value[32];
} Condition;

enum { CONDITIONS = 24 };

static void add_number(Condition *conditions, size_t *count, const char *name, uint64_t value)
{
    Condition *made = &conditions[(*count)++];
    made->name = name;
    snprintf(made->value, sizeof(made->value), "%llu", (unsigned long long)value);
}

static void add_real(Condition *conditions, size_t *count, const char *name, double value)
{
    Condition *made = &conditions[(*count)++];
    made->name = name;
    snprintf(made->value, sizeof(made->value), "%.17g", value);
    char *to = made->value;
    for (const char *from = made->value; *from; from++) { /* with a point, whatever the locale of the program has */
        const bool point = !strchr("+-0123456789abcdefghijklmnopqrstuvwxyz", *from);
        if (!point || to == made->value || to[-1] != '.')
            *to++ = point ? '.' : *from;
    }
    *to = 0;
}

static void add_contents(Condition *conditions, size_t *count, const char *name, uint64_t value)
{
    Condition *made = &conditions[(*count)++];
    made->name = name;
    snprintf(made->value, sizeof(made->value), "%016llx", (unsigned long long)value);
}

/* How long training lasts may change: epochs and patience are not among them. */
static size_t list_conditions(const VklFit *fit, Condition conditions[CONDITIONS])
{
    const VklFitDesc *desc = &fit->desc;
    const VklOptimizerDesc *optimizer = &desc->optimizer;
    size_t count = 0;
    add_number(conditions, &count, "batch_size", desc->batch_size);
    add_number(conditions, &count, "seed", desc->seed);
    add_number(conditions, &count, "shuffle", desc->shuffle);
    add_number(conditions, &count, "loss", (uint64_t)desc->loss);
    add_real(conditions, &count, "huber_delta", desc->huber_delta);
    add_number(conditions, &count, "optimizer", (uint64_t)optimizer->kind);
    add_real(conditions, &count, "learning_rate", optimizer->learning_rate);
    add_real(conditions, &count, "momentum", optimizer->momentum);
    add_real(conditions, &count, "weight_decay", optimizer->weight_decay);
    add_real(conditions, &count, "beta1", optimizer->beta1);
    add_real(conditions, &count, "beta2", optimizer->beta2);
    add_real(conditions, &count, "alpha", optimizer->alpha);
    add_real(conditions, &count, "epsilon", optimizer->epsilon);
    add_real(conditions, &count, "clip_norm", optimizer->clip_norm);
    add_real(conditions, &count, "clip_value", optimizer->clip_value);
    add_number(conditions, &count, "steps of a window", fit->sources[0].steps);
    add_number(conditions, &count, "training windows", fit->sources[0].count);
    add_contents(conditions, &count, "contents of the training windows", fit->sources[0].contents);
    add_number(conditions, &count, "validation windows", fit->sources[1].count);
    add_contents(conditions, &count, "contents of the validation windows", fit->sources[1].contents);
    return count;
}

/* FNV-1a over words */
static uint64_t hash_words(uint64_t hash, const void *data, uint64_t count)
{
    const unsigned char *bytes = data;
    for (uint64_t i = 0; i < count; i++) {
        uint32_t word;
        memcpy(&word, bytes + 4 * i, sizeof(word));
        hash = (hash ^ word) * UINT64_C(1099511628211);
    }
    return hash;
}

VklFitSource vkl_fit_source(const VklWindows *windows)
{
    VklFitSource source = {0};
    if (!windows)
        return source;
    source.count = windows->count;
    source.steps = windows->steps;
    source.contents = hash_words(UINT64_C(14695981039346656037), windows->series, windows->rows * windows->features);
    source.contents = hash_words(source.contents, windows->starts, windows->count);
    source.contents = hash_words(source.contents, windows->targets, windows->count * windows->outputs);
    return source;
}

/* ---- On the host ---- */

/* A training's state, in one block: planes of `params` floats, then moments in pairs, then state headers and losses. */
typedef struct Copy {
    float *planes[VKL_PLANES];
    float *moments;
    uint32_t *state; /* [VKL_STATE_LOSS] of training, then [losses] of training and of validation */
    float *losses;
} Copy;

static uint64_t all_batches(const VklFit *fit)
{
    return fit->train.places.batches + (fit->validated ? fit->validation.places.batches : 0);
}

static VklStatus copy_allocate(VklFit *fit, const char *call, Copy *copy)
{
    uint64_t params = fit->model->network.params, total = (VKL_PLANES + 2) * params + VKL_STATE_LOSS + all_batches(fit);
    float *block = vkl_allocate(fit->model->device->caps.memory, total, sizeof(*block));
    if (!block)
        return vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_HOST_MEMORY,
                        "%s: the host refused memory for %llu numbers", call, (unsigned long long)total);
    for (int i = 0; i < VKL_PLANES; i++)
        copy->planes[i] = block + (uint64_t)i * params;
    copy->moments = block + VKL_PLANES * params;
    copy->losses = copy->moments + 2 * params;
    copy->state = (uint32_t *)(void *)(copy->losses + all_batches(fit));
    return VKL_OK;
}

static void copy_release(Copy *copy)
{
    vkl_release(copy->planes[0]);
}

static VklStatus again(VklFit *fit, VklStatus status)
{
    return status < 0 ? vkl_fail_again(&fit->error, status) : status;
}

/* ---- Writing ---- */

static VklStatus download(VklFit *fit, Copy *copy)
{
    VklStream *stream = fit->model->stream;
    uint64_t bytes = 4 * fit->model->network.params, trained = fit->train.places.batches;
    VklStatus status = vkl_stream_read(stream, vkl_slice(fit->model->params, 0), copy->planes[VKL_PLANE_WEIGHTS], bytes);
    if (!status)
        status = vkl_stream_read(stream, vkl_slice(fit->at.keep_finished ? fit->model->params : fit->finished, 0),
                                 copy->planes[VKL_PLANE_FINISHED], bytes);
    if (!status && fit->best_epoch)
        status = vkl_stream_read(stream, vkl_slice(fit->at.keep_best ? fit->model->params : fit->best, 0),
                                 copy->planes[VKL_PLANE_BEST], bytes);
    if (!status)
        status = vkl_stream_read(stream, vkl_slice(fit->train.moments, 0), copy->moments, 2 * bytes);
    if (!status)
        status = vkl_stream_read(stream, vkl_slice(fit->train.state, 0), copy->state, 4 * VKL_STATE_LOSS);
    if (!status)
        status = vkl_stream_read(stream, vkl_slice(fit->train.state, 4 * VKL_STATE_LOSS), copy->losses, 4 * trained);
    if (!status && fit->validated)
        status = vkl_stream_read(stream, vkl_slice(fit->validation.state, 4 * VKL_STATE_LOSS), copy->losses + trained,
                                 4 * fit->validation.places.batches);
    /* also after a failure: what was recorded names the block */
    VklStatus waited = vkl_stream_wait(stream);
    status = status ? status : waited;
    for (uint64_t i = 0; i < fit->model->network.params && !status; i++) {
        copy->planes[VKL_PLANE_FIRST][i] = copy->moments[2 * i];
        copy->planes[VKL_PLANE_SECOND][i] = copy->moments[2 * i + 1];
    }
    return again(fit, status);
}

static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

/* The text "fit"; for vkl_release(). NULL: no memory. */
static char *make_text(const VklFit *fit, const Copy *copy, double seconds)
{
    Condition conditions[CONDITIONS];
    size_t count = list_conditions(fit, conditions);
    json_t *list = json_object(), *state = json_array();
    bool complete = list && state;
    for (size_t i = 0; i < count && complete; i++)
        complete = json_object_set_new(list, conditions[i].name, json_string(conditions[i].value)) == 0;
    for (int i = VKL_STATE_BIAS1; i <= VKL_STATE_NORM && complete; i++)
        complete = json_array_append_new(state, json_integer(copy->state[i])) == 0;
    json_t *json = complete
                       ? json_pack("{s:O, s:O, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o}", "conditions", list, "state", state,
                                   "epoch", (json_int_t)fit->epoch, "batch", (json_int_t)fit->at.batch, "step",
                                   (json_int_t)copy->state[VKL_STATE_STEP], "steps", (json_int_t)fit->result.steps, "best_epoch",
                                   (json_int_t)fit->best_epoch, "best_loss", real_or_null(fit->best_epoch ? fit->best_loss : NAN),
                                   "loss", real_or_null(fit->result.loss), "validation_loss",
                                   real_or_null(fit->result.validation_loss), "seconds", json_real(seconds))
                       : NULL;
    char *text = json ? vkl_json_text(fit->model->device->caps.memory, json) : NULL;
    json_decref(json);
    json_decref(list);
    json_decref(state);
    return text;
}

/* A whole step, whose results the device has. */
static VklStatus prepare(VklFit *fit, const char *call)
{
    VklContext *context = fit->model->device->context;
    VklStatus status = vkl_fit_ready(fit, call);
    if (!status && fit->settled)
        status = vkl_fail(context, &fit->error, VKL_ERROR_INVALID, "%s: vkl_fit_finish() has chosen the model's weights already",
                          call);
    if (!status && !fit->ended)
        status = vkl_fit_end_step(fit);
    if (status || !fit->ended || fit->end >= 0)
        return status;
    /* the fit keeps the sentence that training ended with, which says where */
    return vkl_fail(context, NULL, fit->end, "%s: training has ended: %s", call, vkl_status_string(fit->end));
}

static VklStatus write_checkpoint(VklFit *fit, const char *call, const VklPrep *prep, void **data, size_t *size)
{
    Copy copy;
    VklStatus status = prepare(fit, call);
    if (!status)
        status = copy_allocate(fit, call, &copy);
    if (status)
        return status;
    status = download(fit, &copy);
    char *text = status ? NULL : make_text(fit, &copy, 1e-9 * vkl_nanoseconds() - fit->began);
    if (!status && !text)
        status = vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_HOST_MEMORY,
                          "%s: no memory for the header of the file", call);
    if (!status) {
        VklPlane planes[VKL_PLANES];
        for (int i = 0; i < VKL_PLANES; i++)
            planes[i] = (VklPlane){.kind = (VklPlaneKind)i, .packed = copy.planes[i]};
        VklModelFile file = {.planes = planes,
                             .plane_count = fit->best_epoch ? VKL_PLANES : VKL_PLANES - 1, /* BEST is the last */
                             .fit = text,
                             .losses = copy.losses,
                             .loss_count = all_batches(fit)};
        status = vkl_model_write(fit->model, &fit->error, call, prep, &file, data, size);
    }
    vkl_release(text);
    copy_release(&copy);
    return status;
}

VklStatus vkl_fit_checkpoint_memory(VklFit *fit, const VklPrep *prep, void **data, size_t *size)
{
    static const char call[] = "vkl_fit_checkpoint_memory";
    if (!data || !size)
        return vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_INVALID, "%s: %s is NULL", call,
                        data ? "size" : "data");
    return write_checkpoint(fit, call, prep, data, size);
}

VklStatus vkl_fit_checkpoint(VklFit *fit, const VklPrep *prep, const char *path)
{
    static const char call[] = "vkl_fit_checkpoint";
    VklContext *context = fit->model->device->context;
    if (!path || !path[0])
        return vkl_fail(context, &fit->error, VKL_ERROR_INVALID, "%s: path is %s", call, path ? "empty" : "NULL");
    void *data = NULL;
    size_t size = 0;
    VklStatus status = write_checkpoint(fit, call, prep, &data, &size);
    if (status)
        return status;
    status = vkl_file_replace(context, &fit->error, path, data, size);
    vkl_release(data);
    return status;
}

/* ---- Reading ---- */

/* What the text "fit" says. */
typedef struct Said {
    uint64_t epoch, batch, steps, best_epoch;
    double best_loss, loss, validation_loss, seconds;
} Said;

static VklStatus refuse(const VklTensorFile *file, const char *what)
{
    return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: fit: %s", file->name, what);
}

static VklStatus check_layers(const VklTensorFile *file, const VklFit *fit)
{
    json_t *config = NULL;
    VklStatus status = vkl_model_config(file, &config);
    if (status)
        return status;
    json_t *layers = vkl_model_layers_json(fit->model), *theirs = json_object_get(config, "layers");
    const VklHostMemory *memory = fit->model->device->caps.memory;
    bool same = json_equal(layers, theirs) &&
                json_integer_value(json_object_get(config, "features")) == (json_int_t)fit->model->network.features;
    if (!layers) {
        status = vkl_fail(file->context, file->error, VKL_ERROR_HOST_MEMORY, "%s: no memory to read it", file->name);
    } else if (!same) {
        char *mine = vkl_json_text(memory, layers), *other = vkl_json_text(memory, theirs);
        status = vkl_fail(file->context, file->error, VKL_ERROR_INVALID,
                          "%s: the checkpoint is of the layers %.150s on %lld features; the model has %.150s on %llu", file->name,
                          other ? other : "(none)", json_integer_value(json_object_get(config, "features")), mine ? mine : "",
                          (unsigned long long)fit->model->network.features);
        vkl_release(mine);
        vkl_release(other);
    }
    json_decref(layers);
    json_decref(config);
    return status;
}

static VklStatus check_conditions(const VklTensorFile *file, const VklFit *fit, const json_t *json)
{
    Condition conditions[CONDITIONS];
    size_t count = list_conditions(fit, conditions);
    const json_t *list = json_object_get(json, "conditions");
    for (size_t i = 0; i < count; i++) {
        const char *value = json_string_value(json_object_get(list, conditions[i].name));
        if (!value || strcmp(value, conditions[i].value))
            return vkl_fail(file->context, file->error, VKL_ERROR_INVALID,
                            "%s: %s: the checkpoint has %.32s, this training %s; it goes on only where they are the same",
                            file->name, conditions[i].name, value ? value : "(none)", conditions[i].value);
    }
    return VKL_OK;
}

static bool read_index(const json_t *json, const char *key, uint64_t most, uint64_t *value)
{
    const json_t *found = json_object_get(json, key);
    if (!vkl_json_is_index(found) || (uint64_t)json_integer_value(found) > most)
        return false;
    *value = (uint64_t)json_integer_value(found);
    return true;
}

static bool read_real(const json_t *json, const char *key, double *value)
{
    const json_t *found = json_object_get(json, key);
    *value = json_is_number(found) ? json_number_value(found) : NAN;
    return json_is_number(found) || json_is_null(found);
}

static VklStatus read_text(const VklTensorFile *file, const VklFit *fit, const json_t *json, Said *said, Copy *copy)
{
    const json_t *state = json_object_get(json, "state");
    uint64_t step;
    vkl_optimizer_state(&fit->desc.optimizer, copy->state);
    if (!read_index(json, "epoch", INT64_MAX, &said->epoch) || !said->epoch)
        return refuse(file, "'epoch' is no whole number from 1 on");
    if (!read_index(json, "batch", all_batches(fit) - 1, &said->batch))
        return refuse(file, "'batch' is no batch of an epoch");
    if (!read_index(json, "step", UINT32_MAX, &step) || !read_index(json, "steps", INT64_MAX, &said->steps))
        return refuse(file, "'step' or 'steps' is no number of steps");
    if (!read_index(json, "best_epoch", said->epoch - 1, &said->best_epoch) || (said->best_epoch && !fit->validated))
        return refuse(file, "'best_epoch' is no finished epoch");
    if (!read_real(json, "best_loss", &said->best_loss) || !read_real(json, "loss", &said->loss) ||
        !read_real(json, "validation_loss", &said->validation_loss) || !read_real(json, "seconds", &said->seconds) ||
        !(said->seconds >= 0) || (said->best_epoch && isnan(said->best_loss)))
        return refuse(file, "a loss, or 'seconds', is no number");
    copy->state[VKL_STATE_STEP] = (uint32_t)step;
    for (size_t i = 0; i <= VKL_STATE_NORM - VKL_STATE_BIAS1; i++) {
        const json_t *word = json_array_get(state, i);
        if (!vkl_json_is_index(word) || json_integer_value(word) > UINT32_MAX)
            return refuse(file, "'state' is no list of words of 32 bits");
        copy->state[VKL_STATE_BIAS1 + i] = (uint32_t)json_integer_value(word);
    }
    return VKL_OK;
}

static VklStatus read_losses(const VklTensorFile *file, const VklFit *fit, Copy *copy)
{
    const VklTensor *tensor = vkl_tensors_find(file, VKL_LOSSES_NAME);
    if (!tensor || tensor->rank != 1 || tensor->shape[0] != all_batches(fit))
        return vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: tensor '%s' is missing or has not the shape [%llu]",
                        file->name, VKL_LOSSES_NAME, (unsigned long long)all_batches(fit));
    vkl_load_floats(copy->losses, file->data + tensor->begin, tensor->shape[0]);
    return VKL_OK;
}

static VklStatus read_all(const VklTensorFile *file, VklFit *fit, Said *said, Copy *copy)
{
    const char *text = vkl_tensors_text(file, "fit");
    json_error_t where;
    json_t *json = text ? json_loads(text, JSON_REJECT_DUPLICATES, &where) : NULL;
    VklStatus status = VKL_OK;
    if (!text)
        status = vkl_fail(file->context, file->error, VKL_ERROR_FORMAT,
                          "%s: it is a model, but no checkpoint: its metadata has no 'fit'", file->name);
    else if (!json)
        status = vkl_fail(file->context, file->error, VKL_ERROR_FORMAT, "%s: fit, character %d: %s", file->name, where.position,
                          where.text);
    if (!status)
        status = check_conditions(file, fit, json);
    if (!status)
        status = read_text(file, fit, json, said, copy);
    if (!status)
        status = read_losses(file, fit, copy);
    for (int i = 0; i < (status ? 0 : VKL_PLANES); i++)
        if (!status && (i != VKL_PLANE_BEST || said->best_epoch))
            status = vkl_model_read_plane(file, fit->model, (VklPlaneKind)i, copy->planes[i]);
    json_decref(json);
    return status;
}

static uint64_t windows_done(const VklBatches *batches, uint64_t count)
{
    uint64_t windows = count * batches->full.rows;
    return windows < batches->count ? windows : batches->count;
}

/* The state of a pass that has done `count` batches. */
static VklStatus write_state(VklFit *fit, const VklBatches *batches, uint64_t count, uint32_t *state, const float *losses,
                             uint64_t at)
{
    VklStream *stream = fit->model->stream;
    uint64_t bytes = 4 * batches->places.batches;
    state[VKL_STATE_BATCH] = (uint32_t)count;
    state[VKL_STATE_WINDOW] = (uint32_t)windows_done(batches, count);
    VklStatus status = vkl_stream_write(stream, vkl_slice(batches->state, 0), state, 4 * VKL_STATE_LOSS);
    if (!status)
        status = vkl_stream_write(stream, vkl_slice(batches->state, 4 * VKL_STATE_LOSS), losses + at, bytes);
    return status ? status : vkl_stream_write(stream, vkl_slice(fit->losses, 4 * at), losses + at, bytes);
}

static VklStatus upload(VklFit *fit, const Said *said, Copy *copy)
{
    VklStream *stream = fit->model->stream;
    uint64_t params = fit->model->network.params, trained = fit->train.places.batches;
    for (uint64_t i = 0; i < params; i++) {
        copy->moments[2 * i] = copy->planes[VKL_PLANE_FIRST][i];
        copy->moments[2 * i + 1] = copy->planes[VKL_PLANE_SECOND][i];
    }
    VklStatus status = vkl_stream_write(stream, vkl_slice(fit->model->params, 0), copy->planes[VKL_PLANE_WEIGHTS], 4 * params);
    if (!status)
        status = vkl_stream_write(stream, vkl_slice(fit->finished, 0), copy->planes[VKL_PLANE_FINISHED], 4 * params);
    if (!status && said->best_epoch)
        status = vkl_stream_write(stream, vkl_slice(fit->best, 0), copy->planes[VKL_PLANE_BEST], 4 * params);
    if (!status)
        status = vkl_stream_write(stream, vkl_slice(fit->train.moments, 0), copy->moments, 8 * params);
    if (!status)
        status = write_state(fit, &fit->train, said->batch < trained ? said->batch : trained, copy->state, copy->losses, 0);
    if (!status && fit->validated) {
        uint32_t state[VKL_STATE_LOSS];
        vkl_optimizer_state(&fit->desc.optimizer, state);
        status =
            write_state(fit, &fit->validation, said->batch > trained ? said->batch - trained : 0, state, copy->losses, trained);
    }
    if (!status)
        status = vkl_fit_prepare_order(fit, fit->epoch);
    if (!status && fit->order)
        status = vkl_stream_copy(stream, vkl_slice(fit->train.state, 4 * fit->train.places.order), vkl_slice(fit->order, 0),
                                 4 * fit->train.count);
    return status ? status : vkl_stream_wait(stream);
}

static VklStatus go_on(VklFit *fit, const Said *said, Copy *copy)
{
    fit->epoch = said->epoch;
    fit->at = (VklFitPlace){.batch = said->batch};
    fit->seen = said->batch;
    fit->best_epoch = said->best_epoch;
    fit->best_loss = said->best_loss;
    fit->result.epochs = said->epoch - 1;
    fit->result.steps = said->steps;
    fit->result.loss = said->loss;
    fit->result.validation_loss = said->validation_loss;
    fit->began -= said->seconds;
    fit->model->mirror_valid = false;
    VklStatus status = again(fit, upload(fit, said, copy));
    vkl_fit_decide(fit, status);
    return status;
}

static VklStatus resume(VklFit *fit, const char *call, const char *name, const void *data, size_t size)
{
    VklTensorFile file = {.context = fit->model->device->context, .error = &fit->error, .name = name};
    Said said = {0};
    Copy copy = {.moments = NULL};
    VklStatus status = vkl_fit_ready(fit, call);
    if (!status && (fit->ended || fit->pace.running || fit->at.batch || fit->at.done || fit->result.steps))
        status = vkl_fail(file.context, &fit->error, VKL_ERROR_INVALID,
                          "%s: training has begun; a VklFit resumes as its first act", call);
    if (!status)
        status = vkl_tensors_open(&file, data, size);
    if (!status)
        status = vkl_tensors_list(&file);
    if (!status)
        status = check_layers(&file, fit);
    if (!status)
        status = copy_allocate(fit, call, &copy);
    if (!status)
        status = read_all(&file, fit, &said, &copy);
    if (!status)
        status = go_on(fit, &said, &copy);
    copy_release(&copy);
    vkl_tensors_close(&file);
    return status;
}

VklStatus vkl_fit_resume_memory(VklFit *fit, const void *data, size_t size)
{
    static const char call[] = "vkl_fit_resume_memory";
    if (!data)
        return vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_INVALID, "%s: data is NULL", call);
    return resume(fit, call, "checkpoint in memory", data, size);
}

VklStatus vkl_fit_resume(VklFit *fit, const char *path)
{
    static const char call[] = "vkl_fit_resume";
    if (!path)
        return vkl_fail(fit->model->device->context, &fit->error, VKL_ERROR_INVALID, "%s: path is NULL", call);
    unsigned char *bytes = NULL;
    size_t size = 0;
    VklStatus status = vkl_file_read(fit->model->device->context, &fit->error, path, &bytes, &size);
    if (status)
        return status;
    status = resume(fit, call, path, bytes, size);
    vkl_release(bytes);
    return status;
}
