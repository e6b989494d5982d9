/* SPDX-License-Identifier: MIT
 *
 * VklStream: ordered work. VklFence: a point in it that can be waited for. VklExec: a prepared, immutable piece of work.
 *
 * What is recorded on a stream runs in order; each piece sees what the pieces before it wrote. Nothing runs until the stream
 * is submitted (the CPU backend may run it at once; a program must not rely on either). A stream is either the library's own
 * (vkl_stream_create) or wraps a VkCommandBuffer of the caller (vkl_stream_wrap_vulkan in vulkan.h).
 *
 *     vkl_stream_write(stream, x, host_x, size);
 *     vkl_rnn_forward(rnn, stream, &args);
 *     vkl_stream_read(stream, y, host_y, size);
 *     vkl_stream_wait(stream);                    // now host_y is there
 *
 * A call that is refused has recorded nothing. Once a submit has failed, the recorded work is dropped.
 */
#ifndef VKLSTM_STREAM_H
#define VKLSTM_STREAM_H

#include "buffer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct VklStream VklStream;
typedef struct VklFence VklFence;
typedef struct VklExec VklExec;

/* Errors: VKL_ERROR_HOST_MEMORY, VKL_ERROR_DEVICE_MEMORY, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_stream_create(VklDevice *device, VklStream **stream);

/* Waits for submitted work, drops unsubmitted work, destroys. A wrapped stream is forgotten without a wait: the GPU must be
 * done with the caller's command buffer. NULL is accepted. */
VKL_API void vkl_stream_destroy(VklStream *stream);

VKL_API const char *vkl_stream_error(const VklStream *stream);

/* Copies `size` bytes (a multiple of 4) from the host to `dst`. `data` is copied before the call returns.
 * Errors: VKL_ERROR_INVALID, VKL_ERROR_UNSUPPORTED (wrapped streams: they must not allocate), memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_stream_write(VklStream *stream, VklSlice dst, const void *data, uint64_t size);

/* Copies `size` bytes (a multiple of 4) from `src` to the host. `data` must stay valid, and is complete, when
 * vkl_stream_wait() or vkl_fence_wait() on a fence of a submit at or after this call has returned VKL_OK. Once one of them has
 * returned an error, or the stream is destroyed, `data` is not written any more.
 * Errors: as vkl_stream_write. */
VKL_API VklStatus vkl_stream_read(VklStream *stream, VklSlice src, void *data, uint64_t size);

/* Copies `size` bytes between buffers of the device (no overlap), or fills `size` bytes with a 32-bit value. Sizes are
 * multiples of 4. Errors: VKL_ERROR_INVALID, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_stream_copy(VklStream *stream, VklSlice dst, VklSlice src, uint64_t size);
VKL_API VklStatus vkl_stream_fill(VklStream *stream, VklSlice dst, uint32_t value, uint64_t size);

/* Submits what was recorded. With `fence` not NULL a fence for everything submitted so far is returned; the caller destroys
 * it. Never blocks on the GPU. Errors: VKL_ERROR_UNSUPPORTED (wrapped stream), memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_stream_submit(VklStream *stream, VklFence **fence);

/* Submits what was recorded and blocks until all submitted work of this stream is done; then reads are complete.
 * Errors: as vkl_stream_submit. */
VKL_API VklStatus vkl_stream_wait(VklStream *stream);

/* Blocks until the fence is reached or `timeout_ns` nanoseconds have passed (0: only looks; UINT64_MAX: no limit). The
 * stream must still exist and must not be used by another thread meanwhile. Returns VKL_OK or VKL_TIMEOUT.
 * Errors: memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_fence_wait(VklFence *fence, uint64_t timeout_ns);
VKL_API void vkl_fence_destroy(VklFence *fence);

/* Work prepared for fixed sizes and buffers: kernels, barriers, pipelines and descriptor sets are settled. Recording it
 * changes nothing in it: it may be recorded any number of times, from several threads at once, each on its own stream. It
 * must outlive the work that it was recorded into (on our own streams the library sees to that).
 * Errors: VKL_ERROR_INVALID (NULL, another device's stream), memory, VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_exec_record(const VklExec *exec, VklStream *stream);
VKL_API void vkl_exec_destroy(VklExec *exec);

/* Submits what was recorded, then `exec` `count` times in a row, as one submission where the device can. What changes
 * between the repetitions must be kept on the device. Not for wrapped streams. Errors: as vkl_stream_submit. */
VKL_API VklStatus vkl_stream_replay(VklStream *stream, VklExec *exec, uint32_t count);

/* A long piece of work, such as a sequence of ten thousand time steps or many repetitions, in pieces: for a program that shares
 * the device with something that must not wait, such as a renderer. */
typedef struct VklJob VklJob;

/* `count` (>= 1) repetitions of `exec`, as vkl_stream_replay() does them, on a stream of the library's own, which must outlive
 * the job. Holds a reference to exec. Errors (told by vkl_stream_error()): VKL_ERROR_INVALID, VKL_ERROR_UNSUPPORTED (a wrapped
 * stream), memory. */
VKL_API VklStatus vkl_job_create(VklStream *stream, VklExec *exec, uint32_t count, VklJob **job);

/* Submits the next piece: as many repetitions, or kernels of one, as take at most `microseconds` (>= 0) of the device's time,
 * but at least one kernel. How long they take is what was measured of earlier pieces, with timestamps, or the host's clock
 * where a queue has none; before the first, an estimate for a slow GPU. The pieces together give the same bits as the whole.
 * Other work on the stream may come between them; what the job reads and writes must be left alone until it is done. Never
 * waits. The CPU backend runs the piece in the call.
 * Returns VKL_OK (a piece was submitted), VKL_TIMEOUT (the piece before still runs: nothing was submitted) or VKL_STOPPED (all
 * is done).
 * Errors: VKL_ERROR_INVALID, memory (the call may be repeated), VKL_ERROR_DEVICE_LOST. */
VKL_API VklStatus vkl_job_run(VklJob *job, double microseconds);

/* Destroys; waits for the piece that runs, as vkl_stream_wait() does. What was not submitted yet of the job is not done. NULL is
 * accepted. */
VKL_API void vkl_job_destroy(VklJob *job);

/* What a stream did since it was created. */
typedef struct VklStreamStats {
    uint64_t dispatches; /* kernels run (repetitions of a replay counted) */
    uint64_t barriers;   /* recorded between them */
    uint64_t submits;    /* calls of vkQueueSubmit; 0 on the CPU backend */
} VklStreamStats;
/* What it did so far: `*stats` is written as a whole. */
VKL_API void vkl_stream_stats(const VklStream *stream, VklStreamStats *stats);

/* Where the time goes: what calls of one kernel with the same work took, all together. */
typedef struct VklKernelTime {
    char name[32];      /* of the kernel */
    char variant[64];   /* its form and the constants that it was specialized with */
    uint64_t calls;     /* that were timed */
    double nanoseconds; /* of all calls. On a GPU from the end of the call before, so with the barrier between them */
    double flops;       /* of one call: multiplications and additions of its sums; 0 where it only moves numbers */
    double bytes;       /* of one call: what it must read and write, each number once */
} VklKernelTime;

/* Times every kernel that is recorded on the stream from here on, or stops to. Off at first: timing puts a barrier and a
 * timestamp of the GPU around each kernel (the CPU backend reads the clock), and a replay is recorded anew. Turning it on
 * forgets earlier times. Work that was recorded but is not waited for yet is counted when it is. The same bits are computed.
 * Errors: VKL_ERROR_UNSUPPORTED (VklDeviceInfo.features.timestamps is false; a wrapped stream), VKL_ERROR_HOST_MEMORY. */
VKL_API VklStatus vkl_stream_profile(VklStream *stream, bool on);

/* The times so far of all work that vkl_stream_wait() has waited for, the longest first. With `times` NULL, `*count` is set to
 * how many there are; else at most `*count` are written and `*count` is set to how many were. Errors: VKL_ERROR_INVALID. */
VKL_API VklStatus vkl_stream_kernel_times(VklStream *stream, uint32_t *count, VklKernelTime *times);

#ifdef __cplusplus
}
#endif
#endif
