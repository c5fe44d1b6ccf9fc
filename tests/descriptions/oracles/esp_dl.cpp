// ESP-DL's shift_and_round_half_up and shift_and_round_half_even (dl_tool.cpp), cut out by the script.
#include <cmath>
#include <limits>
#include "rows.h"
#include "rounding.cpp"

static int64_t one(const char *name, const int64_t *v) { // accumulator with its bias, right shift
    bool even = !strncmp(name, "half_even", 9), wide = strstr(name, "s64") != 0;
    if (wide) return even ? shift_and_round_half_even<int64_t>(v[0], (int)v[1])
                          : shift_and_round_half_up<int64_t>(v[0], (int)v[1]);
    return even ? shift_and_round_half_even<int32_t>((int32_t)v[0], (int)v[1])
                : shift_and_round_half_up<int32_t>((int32_t)v[0], (int)v[1]);
}
