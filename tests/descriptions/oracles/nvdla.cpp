// The single data processor of NVDLA's C model: X1 and X2 (add, multiply, shift), Y (multiply, shift, add), converters.
#include "rows.h"
#include "nvdla_common.h"
#include "sdp.h"

template <class T> static void fill(T &s, int64_t v, int n) {
    for (int i = 0; i < n; i++) s.data[i] = (int)v;
}

static int64_t one(const char *name, const int64_t *v) {
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
    if (!strcmp(name, "operand")) { // x, offset, scale, right shift
        static ac_channel<eDataInStruct> in;
        static ac_channel<eDataOutStruct> out;
        eDataInStruct x;
        fill(x, v[0], SPEED_Y);
        in.write(x);
        NV_NVDLA_SDP_CORE_Y_cvt(in, 0, (int)v[1], (int)v[2], (int)v[3], 0, ENUM_INT8, out);
        return out.read().data[0].to_int();
    }
    if (!strncmp(name, "output_", 7)) { // x, offset, scale, right shift
        static ac_channel<cDataInStruct> in;
        static ac_channel<cDataOutStruct> out;
        cDataInStruct x;
        fill(x, v[0], 16);
        in.write(x);
        NV_NVDLA_SDP_CORE_c(in, (int)v[1], (int)v[2], (unsigned)v[3], ENUM_INT8,
                            !strcmp(name, "output_s8") ? ENUM_INT8 : ENUM_INT16, 0, out);
        return out.read().data[0].to_int();
    }
    exit(3);
}
