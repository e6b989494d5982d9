/* SPDX-License-Identifier: MIT
 *
 * VklFit: training of a model in small pieces, inside a program's own loop. vkl_model_fit() is written with it and gives the
 * same bits.
 *
 *     vkl_fit_create(model, &train, &validation, &desc, &fit);
 *     each frame:  status = vkl_fit_run(fit, 500);            // at most half a millisecond of the device's time
 *     or:          vkl_fit_record(fit, stream, 2, &recorded); // two steps into the frame's own command buffer ...
 *                  status = vkl_fit_collect(fit);             // ... and later, when the GPU is done with that frame
 *     at last:     vkl_fit_finish(fit, &result);              // status was VKL_STOPPED, or training has lasted long enough
 *     vkl_fit_destroy(fit);
 *
 * Weights. Between two calls the model's weights on the device are those of a whole step, whatever the budget. A program that
 * steps agents with the model while it is trained copies the weights (vkl_stream_copy(), from vkl_model_params()) at a point of
 * its own choice between two pieces, and steps with the copy.
 *
 * Threads. One thread at a time for a VklFit, its model and the model's stream together.
 */
#ifndef VKLSTM_FIT_H
#define VKLSTM_FIT_H

#include "io.h"
#include "stream.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklFit VklFit;

/* Begins training as vkl_model_fit() does: checks, allocates, compiles, uploads, and waits for that. `desc` is copied, the
 * windows' arrays are read during the call alone. `validation` may be NULL. While a VklFit exists, its model must not be
 * trained otherwise, nor its tensors be set, nor be destroyed; it may predict.
 * Errors (told by vkl_model_error()): as vkl_model_fit(); VKL_ERROR_INVALID where the model has a VklFit already. */
VKL_API VklStatus vkl_fit_create(VklModel *model, const VklWindows *train, const VklWindows *validation, const VklFitDesc *desc,
                                 VklFit **fit);

/* Waits for what vkl_fit_run() has submitted, ends a step that was cut, destroys. The GPU must be done with command buffers
 * that steps were recorded into. The model keeps the weights of the latest step, or those that vkl_fit_finish() chose. NULL is
 * accepted. */
VKL_API void vkl_fit_destroy(VklFit *fit);

VKL_API const char *vkl_fit_error(const VklFit *fit);

/* Submits a piece on the model's own stream: as many of the next steps of training, and behind the last one of an epoch batches
 * of validation, as take at most `microseconds` (>= 0) of the device's time by what it measured of earlier ones, with
 * timestamps, or the host's clock where a queue has none. The first piece is at most one step. Where one step is longer than
 * that, the piece is some of its kernels, at least one; the optimizer's are not parted. The CPU backend runs the piece in the
 * call.
 *
 * Never waits: looks whether the piece before is done, and if it was the last of an epoch reads the losses, which may end
 * training, and chooses the next order. Callbacks of the description are called from here.
 *
 * Returns VKL_OK (a piece was submitted), VKL_TIMEOUT (the piece before still runs: nothing was submitted) or VKL_STOPPED
 * (training has ended: call vkl_fit_finish()).
 * Errors: VKL_ERROR_INVALID (microseconds; recorded steps that are not collected), VKL_ERROR_NUMERIC (as vkl_model_fit();
 * training has ended), memory (the call may be repeated), VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_fit_run(VklFit *fit, double microseconds);

/* Blocks until the piece that vkl_fit_run() submitted is done: for a program that has nothing else to do. The next
 * vkl_fit_run() looks at its results.
 * Errors: memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_fit_wait(VklFit *fit);

/* Records at most `steps` batches, of training and then of validation, into any stream of the device, also one that wraps a
 * command buffer of the caller's. `*recorded`: out, how many: fewer at the end of an epoch, whose losses the host must see
 * before the next begins, and 0 until then. Records and does nothing else; submits nothing on a wrapped stream. Command buffers
 * must run in the order of recording, each once, on one queue or with semaphores between.
 * Returns VKL_OK, VKL_TIMEOUT (a piece of vkl_fit_run() still runs) or VKL_STOPPED (training has ended).
 * Errors: VKL_ERROR_INVALID (another device's stream), as vkl_exec_record(); after one training has ended. */
VKL_API VklStatus vkl_fit_record(VklFit *fit, VklStream *stream, uint32_t steps, uint32_t *recorded);

/* The caller says: the device has done all that vkl_fit_record() recorded so far. At the end of an epoch reads its losses,
 * calls the callbacks and prepares the next.
 * Returns VKL_OK or VKL_STOPPED (training has ended). Errors: VKL_ERROR_NUMERIC, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_fit_collect(VklFit *fit);

typedef struct VklFitProgress {
    size_t struct_size;
    uint64_t epoch, epochs;   /* the running one, from 1, and how many are planned */
    uint64_t step, steps;     /* training steps of this epoch that are known to be done, and how many it has */
    uint64_t all_steps;       /* those of all epochs that are known to be done */
    double loss;              /* of the latest finished epoch; NaN: none */
    double validation_loss;   /* the same; NaN without validation */
    double step_microseconds; /* what vkl_fit_run() expects a whole step to take the device; 0: not measured yet */
    bool ended;               /* training has; vkl_fit_finish() is next */
} VklFitProgress;

/* `*progress` is written as a whole. */
VKL_API void vkl_fit_progress(const VklFit *fit, VklFitProgress *progress);

/* Ends training, if it has not ended: waits for what vkl_fit_run() has submitted and settles which weights the model has, as
 * vkl_model_fit() does, an early end being the same as a stop asked for by a callback. `result` (may be NULL) is written for
 * VKL_OK and VKL_STOPPED.
 * Returns VKL_OK (all epochs, or stopped by patience), VKL_STOPPED (ended early) or the error that ended training.
 * Errors: VKL_ERROR_INVALID (recorded steps that are not collected), memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_fit_finish(VklFit *fit, VklFitResult *result);

/* A checkpoint: a model file (vkl_model_load() reads the model of the latest step from it, and `prep`, which may be NULL) that
 * also holds the optimizer's moments, the place in the epoch, the losses so far, and the best and the latest finished weights.
 * docs/model-file.md describes it. Waits until the device has ended the step that it is at. The file is written as
 * vkl_model_save() does. May be called from on_epoch. `*data` is freed with vkl_free().
 * Errors: VKL_ERROR_INVALID (recorded steps that are not collected; after vkl_fit_finish()), VKL_ERROR_NUMERIC (training has
 * ended with it), VKL_ERROR_IO, memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_fit_checkpoint(VklFit *fit, const VklPrep *prep, const char *path);
VKL_API VklStatus vkl_fit_checkpoint_memory(VklFit *fit, const VklPrep *prep, void **data, size_t *size);

/* Goes on from a checkpoint, on a VklFit that was just made: with the same layers, windows and description, of which epochs and
 * patience alone may be others. On the same device it goes on with the same bits as if nothing had happened (also in another
 * process, and on another VklDevice made of it); on any other device, or with another path of a layer, within the error budget
 * of docs/numerics.md. Waits.
 * Errors: VKL_ERROR_INVALID (other layers, windows or description: the first difference is named; training has begun),
 * VKL_ERROR_FORMAT (no checkpoint, damaged), VKL_ERROR_IO, memory, VKL_ERROR_DEVICE_LOST. A call that is refused for what the
 * file holds has changed nothing; after a failure of memory or device the VklFit is of no use, and another is made. */
VKL_API VklStatus vkl_fit_resume(VklFit *fit, const char *path);
VKL_API VklStatus vkl_fit_resume_memory(VklFit *fit, const void *data, size_t size);

#ifdef __cplusplus
}
#endif
#endif
