/* Gemmini's macros for the default configuration: what its C functions scale and round with. */
#include "rows.h"
#include "include/gemmini_params.h"

static float bits(int64_t v) {
    union { uint32_t u; float f; } both = {(uint32_t)v};
    return both.f;
}

static int64_t one(const char *name, const int64_t *v) {
    if (!strcmp(name, "store")) return ACC_SCALE((acc_t)v[0], bits(v[1])); /* accumulator, bits of the float32 scale */
    if (!strcmp(name, "load")) return MVIN_SCALE((elem_t)v[0], bits(v[1]));
    if (!strcmp(name, "shift")) return ROUNDING_RIGHT_SHIFT((acc_t)v[0], (int)v[1]);
    if (!strcmp(name, "add")) { /* as resadd_cpu: both loaded with a scale, added, stored with a scale */
        acc_t sum = MVIN_SCALE((elem_t)v[0], bits(v[2])) + MVIN_SCALE((elem_t)v[1], bits(v[3]));
        return ACC_SCALE(sum, bits(v[4]));
    }
    exit(3);
}
