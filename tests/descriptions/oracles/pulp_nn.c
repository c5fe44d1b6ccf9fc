/* The quantizing functions of PULP-NN, compiled for this machine: only the vector types and one builtin are ours. */
#include "rows.h"
typedef signed char v4s __attribute__((vector_size(4)));
typedef unsigned char v4u __attribute__((vector_size(4)));
static int __builtin_pulp_clipu_r(int x, int high) { return x < 0 ? 0 : x > high ? high : x; }
#include "quantizers.c" /* those functions of pulp_nn_utils.c, cut out by the script */

static int64_t one(const char *name, const int64_t *v) {
    if (!strcmp(name, "bn_u8")) return pulp_nn_bn_quant_u8((int32_t)v[0], v[1], v[2], (int8_t)v[3]);
    if (!strcmp(name, "bn_u4")) return pulp_nn_bn_quant_u4((int32_t)v[0], v[1], v[2], (int8_t)v[3]);
    if (!strcmp(name, "bn_u2")) return pulp_nn_bn_quant_u2((int32_t)v[0], v[1], v[2], (int8_t)v[3]);
    if (!strcmp(name, "plain_u8")) return pulp_nn_quant_u8((int32_t)v[0], (int16_t)v[1], (int8_t)v[2]);
    if (!strcmp(name, "add_u8"))
        return pulp_nn_add_quant_u8((uint8_t)v[0], (uint8_t)v[1], (int16_t)v[2], (int16_t)v[3], (int8_t)v[4]);
    exit(3);
}
