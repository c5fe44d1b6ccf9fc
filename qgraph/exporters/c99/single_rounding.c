/* Requantization by multipliers and shifts to the right; with a `step` of 0 one for all channels. */
typedef struct {
    const int32_t *multiplier;
    const int8_t *shift;
    int step;
    int32_t zero_point, low, high;
} qg_single_rounding;

/* value * multiplier / 2^shift, rounded once, half up. Source: TOSA 1.0, apply_scale_32. */
static int32_t qg_scale_once(int32_t value, int32_t multiplier, int shift) {
    return (int32_t)(((int64_t)value * multiplier + ((int64_t)1 << (shift - 1))) >> shift);
}

/* clamp(qg_scale_once(acc) + zero_point). */
static void qg_round_once__Y(const void *acc, void *y, int n, const void *how) {
    const qg_single_rounding h = *(const qg_single_rounding *)how;
    const int32_t *const from = acc;
    Y_t *const out = y;
    for (int i = 0; i < n; ++i) {
        const int32_t value = qg_scale_once(from[i], h.multiplier[i * h.step], h.shift[i * h.step]);
        out[i] = (Y_t)qg_clamp(qg_add_wrapped(value, h.zero_point), h.low, h.high);
    }
}

/* Accumulators of 32 bits as they are. */
static void qg_store(const void *acc, void *y, int n, const void *how) {
    (void)how;
    memcpy(y, acc, (size_t)n * sizeof(int32_t));
}

/* Rows of n codes minus their zero point, requantized. */
static void qg_rescale__X(const X_t *x, void *y, int rows, int n, int32_t zero, int size_y, qg_rounding round_row,
                          const void *how, int32_t *row) {
    unsigned char *out = y;
    for (int r = 0; r < rows; ++r, x += n, out += n * size_y) {
        for (int i = 0; i < n; ++i) {
            row[i] = x[i] - zero;
        }
        round_row(row, out, n, how);
    }
}

/* The mean of what lies inside each window of codes minus their zero point, by a reciprocal for each count. */
static void qg_average_by_reciprocal__X(const X_t *x, X_t *y, const qg_window *s, int32_t zero, int32_t made_zero,
                                        const int32_t *multiplier, const int8_t *shift, int32_t low, int32_t high) {
    for (int oy = 0; oy < s->out_height; ++oy) {
        int top, bottom;
        const int y0 = oy * s->stride_h - s->pad_top;
        qg_inside(y0, s->height, s->kernel_h, 1, &top, &bottom);
        for (int ox = 0; ox < s->out_width; ++ox) {
            int left, right;
            const int x0 = ox * s->stride_w - s->pad_left;
            qg_inside(x0, s->width, s->kernel_w, 1, &left, &right);
            const int count = (bottom - top) * (right - left);
            for (int c = 0; c < s->channels; ++c) {
                int32_t total = -zero * count;
                for (int ky = top; ky < bottom; ++ky) {
                    for (int kx = left; kx < right; ++kx) {
                        total += x[((y0 + ky) * s->width + x0 + kx) * s->channels + c];
                    }
                }
                *y++ = (X_t)qg_clamp(qg_scale_once(total, multiplier[count], shift[count]) + made_zero, low, high);
            }
        }
    }
}

/* Between two of 513 entries that are 128 apart, in 7 more bits. Source: TOSA 1.0, TABLE of 16 bits. */
static void qg_look_up_between(const int16_t *x, int32_t *y, int n, const int16_t *table) {
    for (int i = 0; i < n; ++i) {
        const int32_t at = x[i] + 32768, base = table[at >> 7], next = table[(at >> 7) + 1];
        y[i] = base * 128 + (next - base) * (at & 127);
    }
}
