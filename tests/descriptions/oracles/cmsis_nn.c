/* Functions of CMSIS-NN's arm_nnsupportfunctions.h and whole elementwise kernels, one value at a time. */
#include "arm_nnfunctions.h"
#include "arm_nnsupportfunctions.h"
#include "rows.h"

static int64_t one(const char *name, const int64_t *v) {
    int8_t a = (int8_t)v[0], b = (int8_t)v[1], y8 = 0;
    if (!strcmp(name, "requantize")) /* x, multiplier, left_shift, right_shift, shift */
        return arm_nn_requantize((int32_t)v[0], (int32_t)v[1], (int32_t)(v[2] - v[3]));
    if (!strcmp(name, "requantize_wide")) /* x, multiplier of 16 bits, shift */
        return arm_nn_requantize_s64(v[0], (int32_t)v[1], (int32_t)(15 - v[2]));
    if (!strcmp(name, "multiply")) { /* x, second, zero points, multiplier, left_shift, right_shift, shift */
        arm_elementwise_mul_s8(&a, &b, (int32_t)-v[2], (int32_t)-v[3], &y8, (int32_t)v[4], (int32_t)v[5],
                               (int32_t)(v[6] - v[7]), -128, 127, 1);
        return y8;
    }
    if (!strcmp(name, "add")) { /* x, second, zero points, three multipliers and right shifts */
        arm_elementwise_add_s8(&a, &b, (int32_t)-v[2], (int32_t)v[5], (int32_t)-v[6], (int32_t)-v[3], (int32_t)v[7],
                               (int32_t)-v[8], 20, &y8, (int32_t)v[4], (int32_t)v[9], (int32_t)-v[10], -128, 127, 1);
        return y8;
    }
    if (!strcmp(name, "average")) { /* the sum of n <= 49 elements, n */
        int8_t x[49];
        int64_t left = v[0];
        cmsis_nn_context context = {malloc(64), 64};
        cmsis_nn_pool_params pool = {{1, 1}, {0, 0}, {-128, 127}};
        cmsis_nn_dims in = {1, 1, (int32_t)v[1], 1}, filter = {1, 1, (int32_t)v[1], 1}, out = {1, 1, 1, 1};
        for (int64_t i = 0; i < v[1]; i++) { /* as even as it goes */
            x[i] = (int8_t)(left / (v[1] - i));
            left -= x[i];
        }
        arm_avgpool_s8(&context, &pool, &in, x, &filter, &out, &y8);
        free(context.buf);
        return y8;
    }
    exit(3);
}
