/* SPDX-License-Identifier: MIT
 *
 * The named shapes that `vklstm bench --suite` runs.
 *
 * Time series: sizes that forecasting uses, from one window of one step to a wide network. DeepBench: the recurrent problems of Baidu's
 * benchmark (github.com/baidu-research/DeepBench, code/kernels/rnn_problems.h), as its programs run them: one layer, x as wide
 * as h and added to the gates without a product (cuDNN's CUDNN_SKIP_INPUT), relu in the vanilla cell. Its own backward time has
 * no weight gradients; a training step here has them, and Adam.
 */
#ifndef VKLSTM_TOOLS_SHAPES_H
#define VKLSTM_TOOLS_SHAPES_H

#include "workload.h"

typedef enum ShapeSet { SHAPES_SERIES, SHAPES_DEEPBENCH_TRAINING, SHAPES_DEEPBENCH_SERVER, SHAPES_DEEPBENCH_DEVICE } ShapeSet;

typedef struct SuiteShape {
    ShapeSet set;
    Shape shape;
} SuiteShape;

#define SHAPE_NAME_SIZE 96

size_t suite_shape_count(void);
void suite_shape(size_t index, SuiteShape *shape);
/* "series lstm T100 B32 I8 H64" */
void suite_shape_name(const SuiteShape *shape, char name[SHAPE_NAME_SIZE]);
/* lstm, gru, rnn, rnn_relu */
const char *cell_name(VklCell cell);

#endif
