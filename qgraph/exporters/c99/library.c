/* Sizes of a window op: x [height, width, channels] to y [out_height, out_width, out_channels]. */
typedef struct {
    int height, width, channels, out_height, out_width, out_channels;
    int kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
} qg_window;

/* Turns a row of n accumulators, of channels 0 to n - 1, into codes y. */
typedef void (*qg_rounding)(const void *acc, void *y, int n, const void *how);

/* The taps first to last - 1 of a window that begins at `start` which lie inside a side of `size`. */
static void qg_inside(int start, int size, int kernel, int dilation, int *first, int *last) {
    int begin = start < 0 ? (-start + dilation - 1) / dilation : 0;
    int end = start >= size ? 0 : (size - start + dilation - 1) / dilation;
    *first = begin < kernel ? begin : kernel;
    *last = end < kernel ? end : kernel;
    if (*last < *first) {
        *last = *first;
    }
}

/* value * multiplier * 2^(shift - 31), rounded to 31 bits (half up), then by the right shift n, if any (half away from
 * zero): with p the product both are (p + 2^(30 + n) +- 2^30) >> (31 + n), the sign being that of p.
 * Source: TFLite MultiplyByQuantizedMultiplier with gemmlowp's SaturatingRoundingDoublingHighMul, RoundingDivideByPOT. */
static int32_t qg_multiply(int32_t value, int32_t multiplier, int shift) {
    const int right = shift < 0 ? -shift : 0;
    const int64_t second = shift < 0 ? (int64_t)1 << 30 : 0;
    const uint32_t left = (uint32_t)value << (shift > 0 ? shift : 0);
    const int64_t product = (int64_t)(int32_t)left * multiplier;
    return (int32_t)((product + ((int64_t)1 << (30 + right)) + (product < 0 ? -second : second)) >> (31 + right));
}

/* value between low and high. */
static int32_t qg_clamp(int32_t value, int32_t low, int32_t high) {
    return value < low ? low : value > high ? high : value;
}

/* a + b modulo 2^32. */
static int32_t qg_add_wrapped(int32_t a, int32_t b) {
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

/* Requantization by fixed-point multipliers with two roundings; with a `step` of 0 one for all channels. */
typedef struct {
    const int32_t *multiplier;
    const int8_t *shift;
    int step;
    int32_t zero_point, low, high;
} qg_double_rounding;

/* clamp(qg_multiply(acc) + zero_point). */
static void qg_round_double__Y(const void *acc, void *y, int n, const void *how) {
    const qg_double_rounding h = *(const qg_double_rounding *)how;
    const int32_t *const from = acc;
    Y_t *const out = y;
    for (int i = 0; i < n; ++i) {
        const int32_t value = qg_multiply(from[i], h.multiplier[i * h.step], h.shift[i * h.step]);
        out[i] = (Y_t)qg_clamp(qg_add_wrapped(value, h.zero_point), h.low, h.high);
    }
}

/* clamp(acc * multiplier * 2^(shift - 31) + zero_point), the multiplier cut to 16 bits, rounded once, half up; of
 * accumulators of 64 bits. Source: TFLite MultiplyByQuantizedMultiplier for int64_t. */
static void qg_round_wide__Y(const void *acc, void *y, int n, const void *how) {
    const qg_double_rounding h = *(const qg_double_rounding *)how;
    const int64_t *const from = acc;
    Y_t *const out = y;
    for (int i = 0; i < n; ++i) {
        const int c = i * h.step, right = 15 - h.shift[c];
        const int64_t factor = h.multiplier[c] < 0x7FFF0000 ? (h.multiplier[c] + (1 << 15)) >> 16 : 0x7FFF;
        const int64_t value = (from[i] * factor + ((int64_t)1 << (right - 1))) >> right;
        out[i] = (Y_t)qg_clamp(qg_add_wrapped((int32_t)value, h.zero_point), h.low, h.high);
    }
}

/* As qg_round_double, for shifts to the right by 1 or more alone, which nearly all factors are. */
static void qg_round_right__Y(const void *acc, void *y, int n, const void *how) {
    const qg_double_rounding h = *(const qg_double_rounding *)how;
    const int32_t *const from = acc;
    Y_t *const out = y;
    for (int i = 0; i < n; ++i) {
        const int right = 30 - h.shift[i * h.step];
        const int64_t product = (int64_t)from[i] * h.multiplier[i * h.step];
        const int64_t sum = product + ((int64_t)1 << right) + ((int64_t)1 << 30) + (product >> 63) * ((int64_t)1 << 31);
        out[i] = (Y_t)qg_clamp((int32_t)(sum >> right >> 1) + h.zero_point, h.low, h.high);
    }
}

/* Requantization by float factors; low and high of a code minus its zero point. */
typedef struct {
    const float *scale;
    int step;
    int32_t zero_point, low, high;
} qg_float_even;

/* clamp(rint(float(acc) * scale) + zero_point), ties to even, whatever the rounding mode: adding 3 * 2^22 leaves no
 * fraction. Source: XNNPACK qs8 requantization `fp32`, ONNX Runtime MlasRequantizeOutput. */
static void qg_round_even__Y(const void *acc, void *y, int n, const void *how) {
    const qg_float_even h = *(const qg_float_even *)how;
    const int32_t *const from = acc;
    const float low = (float)h.low, high = (float)h.high;
    Y_t *const out = y;
    for (int i = 0; i < n; ++i) {
        float value = (float)from[i] * h.scale[i * h.step];
        value = value < low ? low : value > high ? high : value;
        out[i] = (Y_t)((int32_t)rintf(value) + h.zero_point);
    }
}

/* Requantization by double factors. */
typedef struct {
    const double *multiplier;
    int step;
    int32_t zero_point, low, high;
} qg_double_away;

/* clamp(int32(round(acc * multiplier)) + zero_point), ties away from zero; a product outside int32 becomes INT32_MIN.
 * Source: TFLite reference_integer_ops::FullyConnected with a double scale. */
static void qg_round_away__Y(const void *acc, void *y, int n, const void *how) {
    const qg_double_away h = *(const qg_double_away *)how;
    const int32_t *const from = acc;
    Y_t *const out = y;
    for (int i = 0; i < n; ++i) {
        const double value = round((double)from[i] * h.multiplier[i * h.step]);
        const int32_t whole = value >= 2147483648.0 || value <= -2147483648.0 ? INT32_MIN : (int32_t)value;
        out[i] = (Y_t)qg_clamp(qg_add_wrapped(whole, h.zero_point), h.low, h.high);
    }
}

/* Adds to acc[k] the sum of (x - zero) * w of filter k, of up to four filters that are `apart`, modulo 2^32 (or 2^64), as
 * the unsigned U does; x - zero fits 16 bits, as 16-bit codes have the zero point 0. Four at a time load x once. */
static void qg_dot__X_W_A_U(const X_t *x, const W_t *w, int n, int32_t zero, int filters, int apart, A_t *acc) {
    if (filters == 4) {
        const W_t *const w1 = w + apart, *const w2 = w1 + apart, *const w3 = w2 + apart;
        U_t a0 = 0, a1 = 0, a2 = 0, a3 = 0;
        for (int i = 0; i < n; ++i) {
            const int16_t code = (int16_t)(x[i] - zero);
            a0 += (U_t)((int32_t)code * w[i]);
            a1 += (U_t)((int32_t)code * w1[i]);
            a2 += (U_t)((int32_t)code * w2[i]);
            a3 += (U_t)((int32_t)code * w3[i]);
        }
        acc[0] = (A_t)((U_t)acc[0] + a0);
        acc[1] = (A_t)((U_t)acc[1] + a1);
        acc[2] = (A_t)((U_t)acc[2] + a2);
        acc[3] = (A_t)((U_t)acc[3] + a3);
        return;
    }
    for (int k = 0; k < filters; ++k, w += apart) {
        U_t sum = 0;
        for (int i = 0; i < n; ++i) {
            sum += (U_t)((int32_t)(int16_t)(x[i] - zero) * w[i]);
        }
        acc[k] = (A_t)((U_t)acc[k] + sum);
    }
}

/* Convolution of x [H, W, C] with w [O, Kh, Kw, C / groups]; `row`: room for the accumulators of one pixel. */
static void qg_conv_2d__X_W_A_U(const X_t *x, const W_t *w, const A_t *bias, void *y, const qg_window *s, int groups,
                              int32_t zero, A_t *row, int size_y, qg_rounding round_row, const void *how) {
    const int depth = s->channels / groups, outs = s->out_channels / groups;
    const int row_x = s->width * s->channels, row_w = s->kernel_w * depth, filter = s->kernel_h * row_w;
    const int joined = groups == 1 && s->dilation_w == 1;
    unsigned char *out = y;
    for (int oy = 0; oy < s->out_height; ++oy) {
        int top, bottom;
        const int y0 = oy * s->stride_h - s->pad_top;
        qg_inside(y0, s->height, s->kernel_h, s->dilation_h, &top, &bottom);
        for (int ox = 0; ox < s->out_width; ++ox) {
            int left, right, many;
            const int x0 = ox * s->stride_w - s->pad_left;
            qg_inside(x0, s->width, s->kernel_w, s->dilation_w, &left, &right);
            const int taps = joined ? (left < right ? 1 : 0) : right - left, length = joined ? (right - left) * depth : depth;
            memcpy(row, bias, (size_t)s->out_channels * sizeof *row);
            for (int o = 0; o < s->out_channels; o += many) {
                const int rest = outs - o % outs;
                const X_t *const first = x + o / outs * depth + (x0 + left * s->dilation_w) * s->channels;
                many = rest < 4 ? rest : 4;
                for (int ky = top; ky < bottom; ++ky) {
                    const X_t *const line = first + (y0 + ky * s->dilation_h) * row_x;
                    const W_t *const line_w = w + o * filter + ky * row_w + left * depth;
                    for (int k = 0; k < taps; ++k) {
                        qg_dot__X_W_A_U(line + k * s->dilation_w * s->channels, line_w + k * depth, length, zero, many, filter, row + o);
                    }
                }
            }
            round_row(row, out, s->out_channels, how);
            out += s->out_channels * size_y;
        }
    }
}

/* Depthwise convolution of x [H, W, C] with w [Kh, Kw, C * M]: channel c * M + m reads channel c. */
static void qg_depthwise_conv_2d__X_W_A_U(const X_t *x, const W_t *w, const A_t *bias, void *y, const qg_window *s,
                                      int32_t zero, A_t *row, int size_y, qg_rounding round_row,
                                      const void *how) {
    const int many = s->out_channels / s->channels;
    unsigned char *out = y;
    for (int oy = 0; oy < s->out_height; ++oy) {
        int top, bottom;
        const int y0 = oy * s->stride_h - s->pad_top;
        qg_inside(y0, s->height, s->kernel_h, s->dilation_h, &top, &bottom);
        for (int ox = 0; ox < s->out_width; ++ox) {
            int left, right;
            const int x0 = ox * s->stride_w - s->pad_left;
            qg_inside(x0, s->width, s->kernel_w, s->dilation_w, &left, &right);
            memcpy(row, bias, (size_t)s->out_channels * sizeof *row);
            for (int ky = top; ky < bottom; ++ky) {
                for (int kx = left; kx < right; ++kx) {
                    const X_t *const from = x + ((y0 + ky * s->dilation_h) * s->width + x0 + kx * s->dilation_w) * s->channels;
                    const W_t *const taps = w + (ky * s->kernel_w + kx) * s->out_channels;
                    if (many == 1) {
                        for (int c = 0; c < s->channels; ++c) {
                            const U_t product = (U_t)((int32_t)(int16_t)(from[c] - zero) * taps[c]);
                            row[c] = (A_t)((U_t)row[c] + product);
                        }
                    } else {
                        for (int c = 0; c < s->channels; ++c) {
                            for (int m = 0; m < many; ++m) {
                                const U_t product = (U_t)((from[c] - zero) * taps[c * many + m]);
                                row[c * many + m] = (A_t)((U_t)row[c * many + m] + product);
                            }
                        }
                    }
                }
            }
            round_row(row, out, s->out_channels, how);
            out += s->out_channels * size_y;
        }
    }
}

/* Transposed convolution: window ox * stride - pad of y [H', W', O] gets x [H, W, C] times w [O, Kh, Kw, C]; here each
 * element of y gathers what reaches it. */
static void qg_transpose_conv__X_W_A_U(const X_t *x, const W_t *w, const A_t *bias, void *y, const qg_window *s,
                                   int32_t zero, A_t *row, int size_y, qg_rounding round_row, const void *how) {
    unsigned char *out = y;
    for (int oy = 0; oy < s->out_height; ++oy) {
        for (int ox = 0; ox < s->out_width; ++ox) {
            memcpy(row, bias, (size_t)s->out_channels * sizeof *row);
            for (int ky = 0; ky < s->kernel_h; ++ky) {
                const int from_y = oy + s->pad_top - ky;
                if (from_y < 0 || from_y % s->stride_h != 0 || from_y / s->stride_h >= s->height) {
                    continue;
                }
                for (int kx = 0; kx < s->kernel_w; ++kx) {
                    const int from_x = ox + s->pad_left - kx;
                    if (from_x < 0 || from_x % s->stride_w != 0 || from_x / s->stride_w >= s->width) {
                        continue;
                    }
                    const X_t *const pixel = x + (from_y / s->stride_h * s->width + from_x / s->stride_w) * s->channels;
                    const W_t *const taps = w + (ky * s->kernel_w + kx) * s->channels;
                    const int filter = s->kernel_h * s->kernel_w * s->channels;
                    for (int o = 0; o < s->out_channels; o += 4) {
                        const int many = s->out_channels - o < 4 ? s->out_channels - o : 4;
                        qg_dot__X_W_A_U(pixel, taps + o * filter, s->channels, zero, many, filter, row + o);
                    }
                }
            }
            round_row(row, out, s->out_channels, how);
            out += s->out_channels * size_y;
        }
    }
}

/* x [rows, depth] times w [outs, depth]. */
static void qg_fully_connected__X_W_A_U(const X_t *x, const W_t *w, const A_t *bias, void *y, int rows, int depth,
                                    int outs, int32_t zero, A_t *row, int size_y, qg_rounding round_row,
                                    const void *how) {
    unsigned char *out = y;
    for (int r = 0; r < rows; ++r) {
        memcpy(row, bias, (size_t)outs * sizeof *row);
        for (int o = 0; o < outs; o += 4) {
            qg_dot__X_W_A_U(x + r * depth, w + o * depth, depth, zero, outs - o < 4 ? outs - o : 4, depth, row + o);
        }
        round_row(row, out, outs, how);
        out += outs * size_y;
    }
}

/* One matrix x (element [m][k] at m * x_row + k * x_step) times w ([k][n] likewise). */
static void qg_matrix_product__X_W_A_U(const X_t *x, const W_t *w, void *y, int rows, int depth, int columns, int x_row,
                                   int x_step, int w_row, int w_step, int32_t x_zero, int32_t w_zero, A_t *row,
                                   int size_y, qg_rounding round_row, const void *how) {
    unsigned char *out = y;
    for (int m = 0; m < rows; ++m) {
        for (int n = 0; n < columns; ++n) {
            U_t acc = 0;
            for (int k = 0; k < depth; ++k) {
                acc += (U_t)((x[m * x_row + k * x_step] - x_zero) * (w[k * w_row + n * w_step] - w_zero));
            }
            row[n] = (A_t)acc;
        }
        round_row(row, out, columns, how);
        out += columns * size_y;
    }
}

/* The largest of each window, then clamped. */
static void qg_max_pool__X(const X_t *x, X_t *y, const qg_window *s, int32_t low, int32_t high) {
    for (int oy = 0; oy < s->out_height; ++oy) {
        int top, bottom;
        const int y0 = oy * s->stride_h - s->pad_top;
        qg_inside(y0, s->height, s->kernel_h, 1, &top, &bottom);
        for (int ox = 0; ox < s->out_width; ++ox, y += s->channels) {
            int left, right;
            const int x0 = ox * s->stride_w - s->pad_left;
            qg_inside(x0, s->width, s->kernel_w, 1, &left, &right);
            for (int c = 0; c < s->channels; ++c) {
                y[c] = (X_t)low;
            }
            for (int ky = top; ky < bottom; ++ky) {
                for (int kx = left; kx < right; ++kx) {
                    const X_t *const from = x + ((y0 + ky) * s->width + x0 + kx) * s->channels;
                    for (int c = 0; c < s->channels; ++c) {
                        y[c] = from[c] > y[c] ? from[c] : y[c];
                    }
                }
            }
            for (int c = 0; c < s->channels; ++c) {
                y[c] = y[c] > high ? (X_t)high : y[c];
            }
        }
    }
}

/* The mean of what lies inside each window, half away from zero, then clamped. */
static void qg_average_pool__X(const X_t *x, X_t *y, const qg_window *s, int32_t low, int32_t high, int32_t *row) {
    for (int oy = 0; oy < s->out_height; ++oy) {
        int top, bottom;
        const int y0 = oy * s->stride_h - s->pad_top;
        qg_inside(y0, s->height, s->kernel_h, 1, &top, &bottom);
        for (int ox = 0; ox < s->out_width; ++ox, y += s->channels) {
            int left, right;
            const int x0 = ox * s->stride_w - s->pad_left;
            qg_inside(x0, s->width, s->kernel_w, 1, &left, &right);
            const int32_t count = (bottom - top) * (right - left);
            memset(row, 0, (size_t)s->channels * sizeof *row);
            for (int ky = top; ky < bottom; ++ky) {
                for (int kx = left; kx < right; ++kx) {
                    const X_t *const from = x + ((y0 + ky) * s->width + x0 + kx) * s->channels;
                    for (int c = 0; c < s->channels; ++c) {
                        row[c] += from[c];
                    }
                }
            }
            for (int c = 0; c < s->channels; ++c) {
                const int32_t mean = (row[c] + (row[c] > 0 ? count / 2 : -(count / 2))) / count;
                y[c] = (X_t)qg_clamp(mean, low, high);
            }
        }
    }
}

/* a * b / 2^31, half up, saturated: gemmlowp's SaturatingRoundingDoublingHighMul. */
static int32_t qg_high_mul(int32_t a, int32_t b) {
    const int64_t high = ((int64_t)a * b + ((int64_t)1 << 30)) >> 31;
    return high > INT32_MAX ? INT32_MAX : (int32_t)high;
}

/* 1 / (1 + a) in Q0, for a in Q0, [0, 1): three Newton steps. Source: gemmlowp fixedpoint.h. */
static int32_t qg_one_over_one_plus(int32_t a) {
    const int32_t half = (int32_t)(((int64_t)a + INT32_MAX + 1) >> 1);
    int32_t x = 1515870810 + qg_high_mul(half, -1010580540);
    for (int i = 0; i < 3; ++i) {
        const int32_t error = (1 << 29) - qg_high_mul(half, x);
        const int64_t step = (int64_t)qg_high_mul(x, error) * 4;
        const int32_t saturated = step > INT32_MAX ? INT32_MAX : step < INT32_MIN ? INT32_MIN : (int32_t)step;
        x = qg_add_wrapped(x, saturated);
    }
    return x > INT32_MAX / 2 ? INT32_MAX : x < -(1 << 30) ? INT32_MIN : x * 2;
}

/* Softmax of rows of 8-bit codes; `exponentials` in Q0 of 0 to -255 steps, of which the first `counting` count. Gives 1
 * where the exponentials of a row sum up to 512 or more, which the runtime aborts on.
 * Source: TFLite reference/softmax.h (Softmax for 8 bits). */
static int qg_softmax__X_Y(const X_t *x, Y_t *y, int rows, int n, const int32_t *exponentials, int counting,
                            int32_t low, int32_t high) {
    for (int r = 0; r < rows; ++r, x += n, y += n) {
        int32_t largest = x[0];
        int64_t total = 0;
        int bits = 0;
        for (int i = 1; i < n; ++i) {
            largest = x[i] > largest ? x[i] : largest;
        }
        for (int i = 0; i < n; ++i) {
            const int32_t term = exponentials[largest - x[i]];
            total += (term >> 12) + ((term & 4095) > 2047 ? 1 : 0);
        }
        while (total >> bits != 0) {
            ++bits;
        }
        if (bits + 12 - 32 > 8) {
            return 1;
        }
        const int32_t reciprocal = qg_one_over_one_plus((int32_t)((total << (32 - bits)) - ((int64_t)1 << 31)));
        const int exponent = bits + 12 - 32 + 31 - 8 * (int)sizeof *y;
        for (int i = 0; i < n; ++i) {
            const int32_t below = largest - x[i];
            const int64_t value = qg_high_mul(reciprocal, exponentials[below]), mask = ((int64_t)1 << exponent) - 1;
            const int64_t code = (value >> exponent) + ((value & mask) > mask >> 1 ? 1 : 0) + low;
            y[i] = (Y_t)(below >= counting ? low : code > high ? high : code);
        }
    }
    return 0;
}

/* A function of codes, by their bits, the unsigned U. */
static void qg_look_up__X_U_Y(const X_t *x, Y_t *y, int n, const Y_t *table) {
    for (int i = 0; i < n; ++i) {
        y[i] = table[(U_t)x[i]];
    }
}

/* clamp(round(x / scale) + zero_point), half away from zero; NaN gives the lowest code. */
static void qg_quantize_away__Y(const float *x, Y_t *y, int n, float scale, float zero, float low, float high) {
    for (int i = 0; i < n; ++i) {
        const float code = roundf(x[i] / scale) + zero;
        y[i] = (Y_t)(code > high ? high : code > low ? code : low);
    }
}

/* clamp(rint(x * reciprocal) + zero_point), ties to even; NaN gives the lowest code. */
static void qg_quantize_even__Y(const float *x, Y_t *y, int n, float reciprocal, float zero, float low, float high) {
    for (int i = 0; i < n; ++i) {
        const float code = rintf(x[i] * reciprocal) + zero;
        y[i] = (Y_t)(code > high ? high : code > low ? code : low);
    }
}

/* (x - zero_point) * scale. */
static void qg_dequantize__X(const X_t *x, float *y, int n, int32_t zero, float scale) {
    for (int i = 0; i < n; ++i) {
        y[i] = (float)(x[i] - zero) * scale;
    }
}

/* An operand of a sum: its codes minus the zero point, times 2^left, times a multiplier; a step of 0 repeats one code. */
typedef struct {
    int step, left, shift;
    int32_t zero_point, multiplier;
} qg_term;

/* Element i of an operand in the terms of a sum. */
static int32_t qg_scaled__X(const X_t *x, int i, const qg_term *t) {
    return qg_multiply((x[i * t->step] - t->zero_point) * (1 << t->left), t->multiplier, t->shift);
}

/* Rows of up to 64 of n elements of two operands. */
static int qg_row_length(int n, int at) {
    return n - at < 64 ? n - at : 64;
}

/* The sum of two operands, or with sign = -1 the difference, requantized. */
static void qg_sum__X(const X_t *a, const X_t *b, void *y, int size_y, int n, const qg_term *s, const qg_term *t,
                      int sign, qg_rounding round_row, const void *how) {
    int32_t row[64];
    unsigned char *out = y;
    for (int at = 0; at < n; at += 64) {
        const int m = qg_row_length(n, at);
        for (int i = 0; i < m; ++i) {
            row[i] = qg_scaled__X(a, at + i, s) + sign * qg_scaled__X(b, at + i, t);
        }
        round_row(row, out + at * size_y, m, how);
    }
}

/* The square of the difference of two operands, requantized. */
static void qg_squared_difference__X(const X_t *a, const X_t *b, void *y, int size_y, int n, const qg_term *s,
                                     const qg_term *t, qg_rounding round_row, const void *how) {
    int32_t row[64];
    unsigned char *out = y;
    for (int at = 0; at < n; at += 64) {
        const int m = qg_row_length(n, at);
        for (int i = 0; i < m; ++i) {
            const int32_t difference = qg_scaled__X(a, at + i, s) - qg_scaled__X(b, at + i, t);
            row[i] = difference * difference;
        }
        round_row(row, out + at * size_y, m, how);
    }
}

/* The product of codes minus their zero points, requantized. */
static void qg_product__X(const X_t *a, const X_t *b, void *y, int size_y, int n, const qg_term *s, const qg_term *t,
                          qg_rounding round_row, const void *how) {
    int32_t row[64];
    unsigned char *out = y;
    for (int at = 0; at < n; at += 64) {
        const int m = qg_row_length(n, at);
        for (int i = 0; i < m; ++i) {
            row[i] = (a[(at + i) * s->step] - s->zero_point) * (b[(at + i) * t->step] - t->zero_point);
        }
        round_row(row, out + at * size_y, m, how);
    }
}

/* Four neighbours weighted in 10-bit fixed point, half away from zero; for each row and column of y the weight of the
 * second neighbour and the places of both. Source: TFLite reference/resize_bilinear.h (ResizeBilinearInteger). */
static void qg_resize_bilinear__X(const X_t *x, X_t *y, const qg_window *s, const int32_t *rows, const int32_t *columns) {
    const int h = s->out_height, w = s->out_width;
    for (int oy = 0; oy < h; ++oy) {
        const int64_t dy = rows[oy];
        const X_t *const upper = x + rows[h + oy] * s->width * s->channels;
        const X_t *const lower = x + rows[2 * h + oy] * s->width * s->channels;
        for (int ox = 0; ox < w; ++ox, y += s->channels) {
            const int64_t dx = columns[ox];
            const int left = columns[w + ox] * s->channels, right = columns[2 * w + ox] * s->channels;
            for (int c = 0; c < s->channels; ++c) {
                const int64_t above = upper[left + c] * (1024 - dx) + upper[right + c] * dx;
                const int64_t below = lower[left + c] * (1024 - dx) + lower[right + c] * dx;
                const int64_t total = above * (1024 - dy) + below * dy;
                y[c] = (X_t)((total + (total > 0 ? 1 << 19 : -(1 << 19))) / (1 << 20));
            }
        }
    }
}

/* The first index of the largest element along an axis of n elements, `inner` apart; with sign = -1 of the smallest. */
static void qg_place__X_Y(const X_t *x, Y_t *y, int outer, int n, int inner, int sign) {
    for (int o = 0; o < outer; ++o) {
        for (int i = 0; i < inner; ++i) {
            const X_t *const from = x + o * n * inner + i;
            int best = 0;
            for (int k = 1; k < n; ++k) {
                best = sign * from[k * inner] > sign * from[best * inner] ? k : best;
            }
            y[o * inner + i] = best;
        }
    }
}

/* PReLU: codes minus their zero point by one multiplier, or below zero times those of alpha by another; both terms have
 * their multipliers, of x and of the product. */
static void qg_prelu__X(const X_t *x, const X_t *alpha, X_t *y, int n, const qg_term *s, const qg_term *t, int32_t zero,
                        int32_t low, int32_t high) {
    for (int i = 0; i < n; ++i) {
        const int32_t value = x[i * s->step] - s->zero_point, slope = alpha[i * t->step] - t->zero_point;
        const int32_t made = value >= 0 ? qg_multiply(value, s->multiplier, s->shift)
                                        : qg_multiply(value * slope, t->multiplier, t->shift);
        y[i] = (X_t)qg_clamp(qg_add_wrapped(made, zero), low, high);
    }
}

/* One step of SVDF: the features of x [inputs] become the newest of `memory` steps of each of `filters` filters in
 * `after`, the others move up; y [filters / rank] adds up the filters of a unit over all steps. `feature`: how sums of
 * features are requantized to the state's storage without its zero point, which wraps. Source: TFLite reference/svdf.h. */
static void qg_svdf__S(const int8_t *x, const int8_t *w_feature, const S_t *w_time, const S_t *state, S_t *after,
                       const int32_t *bias, void *y, int inputs, int filters, int memory, int rank, int32_t x_zero,
                       int32_t state_zero, int32_t *row, qg_rounding round_feature, const void *feature,
                       qg_rounding round_row, const void *how) {
    for (int f = 0; f < filters; ++f) {
        uint32_t acc = 0;
        for (int i = 0; i < inputs; ++i) {
            acc += (uint32_t)((x[i] - x_zero) * w_feature[f * inputs + i]);
        }
        row[f] = (int32_t)acc;
    }
    for (int f = 0; f < filters; ++f) {
        S_t *const steps = after + f * memory;
        memcpy(steps, state + f * memory + 1, (size_t)(memory - 1) * sizeof *steps);
        round_feature(row + f, steps + memory - 1, 1, feature);
        steps[memory - 1] = (S_t)(steps[memory - 1] + state_zero);
    }
    for (int u = 0; u < filters / rank; ++u) {
        uint32_t acc = (uint32_t)bias[u];
        for (int k = u * rank * memory; k < (u + 1) * rank * memory; ++k) {
            acc += (uint32_t)((after[k] - state_zero) * w_time[k]);
        }
        row[u] = (int32_t)acc;
    }
    round_row(row, y, filters / rank, how);
}

/* value saturated to 16 bits. */
static int32_t qg_clamp_16(int32_t value) {
    return qg_clamp(value, INT16_MIN, INT16_MAX);
}

/* a * b / 2^15, half up, saturated: SaturatingRoundingDoublingHighMul of 16 bits. */
static int32_t qg_high_mul_16(int32_t a, int32_t b) {
    return qg_clamp_16((a * b + (1 << 14)) >> 15);
}

/* exp(a) in Q0 of 16 bits, for a <= 0 with so many integer bits. Source: gemmlowp fixedpoint.h, exp_on_negative_values. */
static int32_t qg_exp_16(int32_t a, int integer_bits) {
    static const int16_t of_powers[7] = {25520, 19875, 12055, 4435, 600, 11, 0};
    const int fraction = 15 - integer_bits;
    const int32_t quarter = 1 << (fraction - 2), part = (a & (quarter - 1)) - quarter, multiple = part - a;
    const int32_t x = qg_clamp_16(part * (1 << integer_bits)) + (1 << 12), x2 = qg_high_mul_16(x, x);
    const int32_t x3 = qg_high_mul_16(x2, x), x4 = qg_high_mul_16(x2, x2);
    const int32_t cubes = qg_high_mul_16((x4 >> 2) + ((x4 & 3) > 1 + (x4 < 0)) + x3, 10923) + x2;
    const int32_t tail = (cubes >> 1) + ((cubes & 1) > (cubes < 0));
    int32_t result = qg_clamp_16(28918 + qg_high_mul_16(28918, x + tail));
    for (int k = -2; k < integer_bits && k < 5; ++k) {
        if ((multiple & (1 << (fraction + k))) != 0) {
            result = qg_high_mul_16(result, of_powers[k + 2]);
        }
    }
    if (integer_bits > 5 && a < -(1 << (20 - integer_bits))) {
        result = 0;
    }
    return a == 0 ? INT16_MAX : result;
}

/* 2 / (1 + a) with two integer bits, for a in Q0 of 16 bits, [0, 1): three Newton steps. Source: gemmlowp fixedpoint.h. */
static int32_t qg_two_over_one_plus_16(int32_t a) {
    const int32_t half = (a + INT16_MAX + 1) >> 1;
    int32_t x = 23130 + qg_high_mul_16(half, -15420);
    for (int i = 0; i < 3; ++i) {
        const int32_t error = (1 << 13) - qg_high_mul_16(half, x);
        x = (int16_t)(x + qg_clamp_16(qg_high_mul_16(x, error) * 4));
    }
    return x;
}

/* A function of 16 bits to Q0: of a value with so many integer bits, or of three times the value shifted to the left. */
typedef int32_t (*qg_function)(int32_t value, int how);

/* 1 / (1 + exp(-value)). Source: gemmlowp fixedpoint.h, logistic. */
static int32_t qg_logistic_16(int32_t value, int integer_bits) {
    const int32_t e = qg_exp_16(value < 0 ? value : -value, integer_bits);
    const int32_t positive = qg_clamp_16(qg_two_over_one_plus_16(e) * 2);
    return value == 0 ? 1 << 14 : value > 0 ? positive : INT16_MAX - positive;
}

/* Source: gemmlowp fixedpoint.h, tanh. */
static int32_t qg_tanh_16(int32_t value, int integer_bits) {
    const int32_t e = qg_exp_16(value < 0 ? value : -value, integer_bits + 1);
    const int32_t positive = qg_clamp_16((qg_two_over_one_plus_16(e) - (1 << 13)) * 4);
    return value == 0 ? 0 : value < 0 ? -positive : positive;
}

/* 65536 * logistic(i / 24). Source: TFLite sigmoid_table_uint16. */
static const uint16_t qg_sigmoids[256] = {
    32768, 33451, 34133, 34813, 35493, 36169, 36843, 37513, 38180, 38841, 39498, 40149, 40794, 41432, 42064, 42688,
    43304, 43912, 44511, 45102, 45683, 46255, 46817, 47369, 47911, 48443, 48964, 49475, 49975, 50464, 50942, 51409,
    51865, 52311, 52745, 53169, 53581, 53983, 54374, 54755, 55125, 55485, 55834, 56174, 56503, 56823, 57133, 57433,
    57724, 58007, 58280, 58544, 58800, 59048, 59288, 59519, 59743, 59959, 60168, 60370, 60565, 60753, 60935, 61110,
    61279, 61441, 61599, 61750, 61896, 62036, 62172, 62302, 62428, 62549, 62666, 62778, 62886, 62990, 63090, 63186,
    63279, 63368, 63454, 63536, 63615, 63691, 63765, 63835, 63903, 63968, 64030, 64090, 64148, 64204, 64257, 64308,
    64357, 64405, 64450, 64494, 64536, 64576, 64614, 64652, 64687, 64721, 64754, 64786, 64816, 64845, 64873, 64900,
    64926, 64950, 64974, 64997, 65019, 65039, 65060, 65079, 65097, 65115, 65132, 65149, 65164, 65179, 65194, 65208,
    65221, 65234, 65246, 65258, 65269, 65280, 65291, 65301, 65310, 65319, 65328, 65337, 65345, 65352, 65360, 65367,
    65374, 65381, 65387, 65393, 65399, 65404, 65410, 65415, 65420, 65425, 65429, 65433, 65438, 65442, 65445, 65449,
    65453, 65456, 65459, 65462, 65465, 65468, 65471, 65474, 65476, 65479, 65481, 65483, 65485, 65488, 65489, 65491,
    65493, 65495, 65497, 65498, 65500, 65501, 65503, 65504, 65505, 65507, 65508, 65509, 65510, 65511, 65512, 65513,
    65514, 65515, 65516, 65517, 65517, 65518, 65519, 65520, 65520, 65521, 65522, 65522, 65523, 65523, 65524, 65524,
    65525, 65525, 65526, 65526, 65526, 65527, 65527, 65528, 65528, 65528, 65529, 65529, 65529, 65529, 65530, 65530,
    65530, 65530, 65531, 65531, 65531, 65531, 65531, 65532, 65532, 65532, 65532, 65532, 65532, 65533, 65533, 65533,
    65533, 65533, 65533, 65533, 65533, 65534, 65534, 65534, 65534, 65534, 65534, 65534, 65534, 65534, 65534, 65535
};

/* Three times a value, shifted to the left, or rounded half up to the right. */
static int32_t qg_thrice(int32_t value, int left) {
    return left < 0 ? (3 * value + (1 << (-left - 1))) >> -left : 3 * value * (1 << left);
}

/* Between two entries of the table, which are 1 << bits apart; as the last one beyond. */
static int32_t qg_sigmoid_between(int32_t magnitude, int bits, int32_t beyond) {
    const int32_t at = magnitude >> bits, part = magnitude & ((1 << bits) - 1);
    return at >= 255 ? beyond : (qg_sigmoids[at] << bits) + part * (qg_sigmoids[at + 1] - qg_sigmoids[at]);
}

/* Source: TFLite reference/integer_ops/logistic.h. */
static int32_t qg_logistic_of_table(int32_t value, int left) {
    const int32_t x = qg_thrice(value, left), positive = qg_sigmoid_between(x < 0 ? -x : x, 9, 0x7FFF << 10);
    return (x >= 0 ? positive + 512 : (1 << 25) - positive + 511) >> 10;
}

/* Source: TFLite reference/integer_ops/tanh.h. */
static int32_t qg_tanh_of_table(int32_t value, int left) {
    const int32_t x = qg_thrice(value, left), positive = qg_sigmoid_between(x < 0 ? -x : x, 8, 0xFFFF << 8);
    return (x >= 0 ? positive - (1 << 23) + 128 : (1 << 23) - positive + 127) >> 8;
}

/* How an LSTM computes: multipliers of the sums of each gate, input, forget, cell, output, of x and then of h; what is
 * apart in x and y are steps and examples. */
typedef struct {
    int examples, steps, inputs, units, x_example, x_step, y_example, y_step;
    const int32_t *multiplier;
    const int8_t *shift;
    int32_t x_zero, h_zero, y_zero, y_multiplier, low, high;
    int y_shift, right, of_gate, of_cell, saturates;
    qg_function logistic, tangent;
} qg_lstm_how;

/* A product by 2^-right: half away from zero, or with the two roundings of qg_multiply, and saturated. */
static int32_t qg_lstm_product(int32_t product, int right, int saturates) {
    return saturates ? qg_clamp_16(qg_multiply(product, 1 << 30, 1 - right))
                     : (product + (1 << (right - 1)) - (product < 0)) >> right;
}

/* The sum of a gate, in Q3.12. */
static int32_t qg_lstm_gate(const int8_t *x, const int8_t *w, int32_t bias, const int8_t *h, const int8_t *r, int gate,
                            const qg_lstm_how *s) {
    int32_t of_x = bias, of_h = 0;
    for (int i = 0; i < s->inputs; ++i) {
        of_x += (x[i] - s->x_zero) * w[i];
    }
    for (int k = 0; k < s->units; ++k) {
        of_h += (h[k] - s->h_zero) * r[k];
    }
    of_x = qg_clamp_16(qg_multiply(of_x, s->multiplier[gate], s->shift[gate]));
    of_h = qg_multiply(of_h, s->multiplier[4 + gate], s->shift[4 + gate]);
    return qg_clamp_16(of_x + (s->saturates ? qg_clamp_16(of_h) : of_h));
}

/* An LSTM over x [examples, steps, inputs] with weights w [4, units, inputs] and r [4, units, units], from h [examples,
 * units] and c on, which becomes the last one. Source: TFLite lstm_eval.cc, or, with `saturates`, TFLite Micro's. */
static void qg_lstm(const int8_t *x, const int8_t *w, const int8_t *r, const int32_t *b, const int8_t *h, int16_t *c,
                    int8_t *y, const qg_lstm_how *s) {
    for (int n = 0; n < s->examples; ++n, h += s->units, c += s->units) {
        const int8_t *now = x + n * s->x_example, *before = h;
        int8_t *made = y + n * s->y_example;
        for (int t = 0; t < s->steps; ++t, now += s->x_step, before = made, made += s->y_step) {
            for (int u = 0; u < s->units; ++u) {
                int32_t gate[4];
                for (int g = 0; g < 4; ++g) {
                    const int at = g * s->units + u;
                    gate[g] = qg_lstm_gate(now, w + at * s->inputs, b[at], before, r + at * s->units, g, s);
                    gate[g] = (g == 2 ? s->tangent : s->logistic)(gate[g], s->of_gate);
                }
                const int32_t added = qg_lstm_product(gate[0] * gate[2], s->right, s->saturates);
                const int32_t kept = qg_lstm_product(gate[1] * c[u], 15, s->saturates);
                c[u] = (int16_t)qg_clamp(added + kept, s->low, s->high);
                const int32_t code = qg_multiply(gate[3] * s->tangent(c[u], s->of_cell), s->y_multiplier, s->y_shift);
                made[u] = (int8_t)(qg_clamp(code, -128 - s->y_zero, 127 - s->y_zero) + s->y_zero);
            }
        }
    }
}

/* Parts of x [shared, outer, count, inner] at the indices [shared, many]; gives 1 for an index that is none. */
static int qg_gather__X_I(const X_t *x, const I_t *indices, X_t *y, int shared, int outer, int count, int many, int inner) {
    for (int b = 0; b < shared; ++b) {
        for (int o = 0; o < outer; ++o, x += count * inner) {
            for (int k = 0; k < many; ++k, y += inner) {
                const I_t index = indices[b * many + k];
                if (index < 0 || index >= count) {
                    return 1;
                }
                memcpy(y, x + (int)index * inner, (size_t)inner * sizeof *y);
            }
        }
    }
    return 0;
}

/* Whether any code lies outside low to high. */
static int qg_outside__X(const X_t *x, int n, int32_t low, int32_t high) {
    int outside = 0;
    for (int i = 0; i < n; ++i) {
        outside |= x[i] < low || x[i] > high;
    }
    return outside;
}
