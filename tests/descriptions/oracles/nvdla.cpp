// The single data processor of NVDLA's C model: X1 and X2 (add, multiply, shift), Y (multiply, shift, add), converters.
#include "rows.h"
#include "nvdla_common.h"
#include "sdp.h"

template <class T> static void fill(T &s, int64_t v, int n) {
    for (int i = 0; i < n; i++) s.data[i] = (int)v;
}

static int64_t x_unit(int64_t x, int64_t operand, int64_t left, bool multiplies, int64_t scale, int64_t shift) {
    static ac_channel<xDataInStruct> in;
    static ac_channel<xAluOpStruct> alu;
    static ac_channel<xMulOpStruct> mul;
    static ac_channel<xDataOutStruct> out;
    xDataInStruct data;
    fill(data, x, 16);
    in.write(data);
    NV_NVDLA_SDP_CORE_x(in, alu, mul, (int)scale, (int)operand, 0, SDP_ALU_MODE_SUM, 0, (unsigned)left, !multiplies, 0,
                        SDP_MUL_SRC_REG, (unsigned)shift, 1, 0, ENUM_INT8, out);
    return out.read().data[0].to_int();
}

static int64_t y_unit(int64_t x, bool multiplies, int64_t scale, int64_t shift, bool adds, int64_t operand) {
    static ac_channel<yDataInStruct> in;
    static ac_channel<eDataOutStruct> alu, mul;
    static ac_channel<yDataOutStruct> out;
    yDataInStruct data;
    fill(data, x, SPEED_Y);
    in.write(data);
    NV_NVDLA_SDP_CORE_Y_core(in, alu, mul, !adds, SDP_ALU_SRC_REG, (int)operand, SDP_ALU_MODE_SUM, !multiplies,
                             SDP_MUL_SRC_REG, (int)scale, (int)shift, 0, ENUM_INT8, out);
    return out.read().data[0].to_int();
}

static int64_t converted(int64_t x, int64_t offset, int64_t scale, int64_t shift) {
    static ac_channel<eDataInStruct> in;
    static ac_channel<eDataOutStruct> out;
    eDataInStruct data;
    fill(data, x, SPEED_Y);
    in.write(data);
    NV_NVDLA_SDP_CORE_Y_cvt(in, 0, (int)offset, (int)scale, (int)shift, 0, ENUM_INT8, out);
    return out.read().data[0].to_int();
}

static int64_t stored(int64_t x, int64_t offset, int64_t scale, int64_t shift, bool narrow) {
    static ac_channel<cDataInStruct> in;
    static ac_channel<cDataOutStruct> out;
    cDataInStruct data;
    fill(data, x, 16);
    in.write(data);
    NV_NVDLA_SDP_CORE_c(in, (int)offset, (int)scale, (unsigned)shift, ENUM_INT8, narrow ? ENUM_INT8 : ENUM_INT16, 0, out);
    return out.read().data[0].to_int();
}

static int64_t one(const char *name, const int64_t *v) {
    if (!strcmp(name, "layer")) // x, bias, multiplier, shift: the bias in X1, the scale in the output converter
        return stored(x_unit(v[0], v[1], 6, false, 1, 0), 0, v[2], v[3], true);
    if (!strcmp(name, "sum")) // x, second, three multipliers and shifts: X2, Y's converter and adder, output converter
        return stored(y_unit(x_unit(v[0], 0, 0, true, v[2], v[3]), false, 1, 0, true, converted(v[1], 0, v[4], v[5])), 0,
                      v[6], v[7], true);
    if (!strcmp(name, "product")) // x, second, multiplier, shift: Y's multiplier, output converter
        return stored(y_unit(v[0], true, v[1], 0, false, 0), 0, v[2], v[3], true);
    if (!strcmp(name, "operand")) return converted(v[0], v[1], v[2], v[3]);
    if (!strncmp(name, "output_", 7)) return stored(v[0], v[1], v[2], v[3], !strcmp(name, "output_s8"));
    if (!strncmp(name, "x_", 2)) { // x, alu operand, its left shift, multiplier, right shift
        static ac_channel<xDataInStruct> in;
        static ac_channel<xAluOpStruct> alu;
        static ac_channel<xMulOpStruct> mul;
        static ac_channel<xDataOutStruct> out;
        xDataInStruct x;
        fill(x, v[0], 16);
        in.write(x);
        bool prelu = !strcmp(name, "x_prelu"), relu = !strcmp(name, "x_relu"), largest = !strcmp(name, "x_maximum");
        NV_NVDLA_SDP_CORE_x(in, alu, mul, (int)v[3], (int)v[1], 0, largest ? SDP_ALU_MODE_MAX : SDP_ALU_MODE_SUM, 0,
                            (unsigned)v[2], 0, prelu, SDP_MUL_SRC_REG, (unsigned)v[4], !relu, 0, ENUM_INT8, out);
        return out.read().data[0].to_int();
    }
    if (!strncmp(name, "y_", 2)) { // x, multiplier, right shift, alu operand
        static ac_channel<yDataInStruct> in;
        static ac_channel<eDataOutStruct> alu, mul;
        static ac_channel<yDataOutStruct> out;
        yDataInStruct x;
        fill(x, v[0], SPEED_Y);
        in.write(x);
        NV_NVDLA_SDP_CORE_Y_core(in, alu, mul, 0, SDP_ALU_SRC_REG, (int)v[3], SDP_ALU_MODE_SUM, 0, SDP_MUL_SRC_REG,
                                 (int)v[1], (int)v[2], !strcmp(name, "y_prelu"), ENUM_INT8, out);
        return out.read().data[0].to_int();
    }
    exit(3);
}
