/* SPDX-License-Identifier: MIT */
#include "parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"

void part_clear(Part *part)
{
    vkl_window_set_destroy(part->set);
    free(part->values);
    memset(part, 0, sizeof *part);
}

void parts_clear(Parts *parts)
{
    for (int i = 0; i < 3; i++)
        part_clear(&parts->part[i]);
}

static VklStatus predict(VklPrep *prep, const VklTable *table, VklModel *model, Part *part)
{
    const VklWindows *windows = &part->set->windows;
    float *predictions = malloc((size_t)windows->count * sizeof *predictions);
    part->values = malloc((size_t)windows->count * sizeof *part->values);
    VklStatus status = predictions && part->values ? VKL_OK : VKL_ERROR_HOST_MEMORY;
    if (status == VKL_OK)
        status = vkl_model_predict(model, windows, predictions);
    if (status == VKL_OK)
        status = vkl_prep_restore(prep, table, part->set, predictions, part->values);
    if (status == VKL_OK)
        status = vkl_prep_score(prep, table, part->set, part->values, &part->score);
    free(predictions);
    return status;
}

VklStatus part_predict(VklPrep *prep, const VklTable *table, VklModel *model, VklPart which, Part *part)
{
    uint64_t begin, end;
    memset(part, 0, sizeof *part);
    vkl_prep_part(prep, vkl_table_rows(table), which, &begin, &end);
    if (begin >= end)
        return VKL_OK;
    VklStatus status = vkl_prep_windows(prep, table, which, &part->set);
    if (status == VKL_OK && part->set->windows.count > 0)
        status = predict(prep, table, model, part);
    if (status != VKL_OK || part->set->windows.count == 0)
        part_clear(part);
    return status;
}

VklStatus parts_predict(VklPrep *prep, const VklTable *table, VklModel *model, uint64_t season, Parts *parts)
{
    VklStatus status = VKL_OK;
    memset(parts, 0, sizeof *parts);
    parts->season = season;
    for (int i = 0; i < 3 && status == VKL_OK; i++)
        status = part_predict(prep, table, model, (VklPart)i, &parts->part[i]);
    const Part *test = &parts->part[VKL_PART_TEST];
    if (status == VKL_OK && test->set)
        status = vkl_prep_baselines(prep, table, test->set, season, &parts->baselines);
    if (status != VKL_OK)
        parts_clear(parts);
    return status;
}

static const char *const names[] = {"training part", "validation part", "test part"}; /* by VklPart */

bool parts_warn(const Parts *parts)
{
    bool warned = false;
    for (int i = 0; i < 3; i++) {
        const Part *part = &parts->part[i];
        uint64_t count = part->set ? part->set->windows.count : 0, bad = 0;
        for (uint64_t k = 0; k < count; k++)
            bad += !isfinite(part->values[k]);
        if (bad)
            warn("%s: %llu of %llu predictions are not finite", names[i], (unsigned long long)bad, (unsigned long long)count);
        warned = warned || bad;
    }
    return warned;
}

void parts_note_unscored(const Parts *parts, const VklPrep *prep, const VklTable *table)
{
    const VklPrepDesc *desc = vkl_prep_get_desc(prep);
    const double *target = vkl_table_column(table, (uint32_t)vkl_table_find(table, desc->target));
    for (int i = VKL_PART_VALIDATION; i <= VKL_PART_TEST; i++) {
        uint64_t begin, end, gaps = 0;
        vkl_prep_part(prep, vkl_table_rows(table), (VklPart)i, &begin, &end);
        if (begin >= end || parts->part[i].set)
            continue;
        for (uint64_t row = begin; row < end; row++)
            gaps += isnan(target[row]);
        const char *reason = gaps == end - begin           ? "all its targets are gaps"
                             : desc->fill == VKL_FILL_DROP ? "what each target needs has a gap, and the fill is 'drop'"
                                                           : "no target has enough rows before it";
        note("%s: no row of it (%llu to %llu) is scored: %s", names[i], (unsigned long long)begin + 1, (unsigned long long)end,
             reason);
    }
}
