// nncase's carry_shift, which rounds in its simulator of the K210: cut out by the script.
#include "rows.h"
#include "carry.cpp"

static int64_t one(const char *name, const int64_t *v) { // the segment's product, right shift
    return !strcmp(name, "banker") ? carry_shift<int64_t, true>(v[0], (int32_t)v[1])
                                   : carry_shift<int64_t, false>(v[0], (int32_t)v[1]);
}
