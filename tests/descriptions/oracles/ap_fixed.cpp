// ap_fixed as hls4ml ships it: every quantization and overflow mode, and a dense layer's products and sum.
#include "ap_fixed.h"
#include "rows.h"

typedef ap_fixed<40, 20> wide; // 20 bits of fraction

template <int W, int I, ap_q_mode Q, ap_o_mode O> static int64_t cast(int64_t raw) {
    wide x;
    x.range() = ap_int<40>(raw);
    ap_fixed<W, I, Q, O> y = x;
    return ap_int<W>(y.range()).to_int64();
}

template <int W, int I, ap_q_mode Q> static int64_t overflow(const char *o, int64_t raw) {
    if (!strcmp(o, "AP_WRAP")) return cast<W, I, Q, AP_WRAP>(raw);
    if (!strcmp(o, "AP_SAT")) return cast<W, I, Q, AP_SAT>(raw);
    if (!strcmp(o, "AP_SAT_ZERO")) return cast<W, I, Q, AP_SAT_ZERO>(raw);
    if (!strcmp(o, "AP_SAT_SYM")) return cast<W, I, Q, AP_SAT_SYM>(raw);
    exit(3);
}

template <int W, int I> static int64_t any(const char *name, int64_t raw) { // name: "AP_RND AP_SAT"
    const char *o = strchr(name, ' ') + 1;
    size_t n = (size_t)(o - name - 1);
#define MODE(q) if (n == strlen(#q) && !strncmp(name, #q, n)) return overflow<W, I, q>(o, raw)
    MODE(AP_TRN); MODE(AP_RND); MODE(AP_RND_ZERO); MODE(AP_RND_MIN_INF); MODE(AP_RND_INF); MODE(AP_RND_CONV); MODE(AP_TRN_ZERO);
    exit(3);
}

// acc = bias; acc += accum(x * w) for 8 products; x, w: ap_fixed<8,3>, accum: ap_fixed<12,6>, result ap_fixed<8,3>
template <class A, class R> static int64_t dense(const int64_t *v) {
    typedef ap_fixed<8, 3> data;
    A acc;
    acc.range() = ap_int<A::width>(v[8]);
    for (int i = 0; i < 4; i++) {
        data x, w;
        x.range() = ap_int<8>(v[i]);
        w.range() = ap_int<8>(v[4 + i]);
        A product = x * w;
        acc += product;
    }
    R y = acc;
    return ap_int<R::width>(y.range()).to_int64();
}

static int64_t one(const char *name, const int64_t *v) {
    if (!strcmp(name, "dense default")) return dense<ap_fixed<12, 6>, ap_fixed<8, 3> >(v);
    if (!strcmp(name, "dense rounded"))
        return dense<ap_fixed<12, 6, AP_RND, AP_SAT>, ap_fixed<8, 3, AP_RND_CONV, AP_SAT> >(v);
    if (!strcmp(name, "dense wide")) return dense<ap_fixed<18, 12>, ap_fixed<8, 3> >(v);
    return any<8, 4>(name, v[0]);
}
