/* value rounded, ties to even, within low and high; what int32 does not hold, or is no number, gives low.
 * Source: x86's conversion, which gives INT32_MIN for it. */
static int32_t qg_nearest(float value, int32_t low, int32_t high) {
    const float whole = rintf(value);
    return whole > -2147483648.0f && whole < 2147483648.0f ? qg_clamp((int32_t)whole, low, high) : low;
}

/* Convolution of x [C, H, W] with w [O, C / groups, Kh, Kw]; `row`: room for the accumulators of one row of y. */
static void qg_conv_first__X_W(const X_t *x, const W_t *w, const int32_t *bias, void *y, const qg_window *s, int groups,
                               int32_t zero, int32_t *row, int size_y, qg_rounding round_row, const void *how) {
    const int depth = s->channels / groups, outs = s->out_channels / groups, step = s->stride_w;
    qg_float_even h = *(const qg_float_even *)how;
    const int next = h.step;
    unsigned char *out = y;
    h.step = 0;
    for (int o = 0; o < s->out_channels; ++o, h.scale += next) {
        const X_t *const group = x + o / outs * depth * s->height * s->width;
        for (int oy = 0; oy < s->out_height; ++oy, out += s->out_width * size_y) {
            int top, bottom;
            const int y0 = oy * s->stride_h - s->pad_top;
            qg_inside(y0, s->height, s->kernel_h, s->dilation_h, &top, &bottom);
            for (int ox = 0; ox < s->out_width; ++ox) {
                row[ox] = bias[o];
            }
            for (int c = 0; c < depth; ++c) {
                for (int ky = top; ky < bottom; ++ky) {
                    const X_t *const line = group + (c * s->height + y0 + ky * s->dilation_h) * s->width;
                    const W_t *const taps = w + ((o * depth + c) * s->kernel_h + ky) * s->kernel_w;
                    for (int kx = 0; kx < s->kernel_w; ++kx) {
                        const int x0 = kx * s->dilation_w - s->pad_left, beyond = (s->width - x0 + step - 1) / step;
                        const int first = x0 < 0 ? (-x0 + step - 1) / step : 0;
                        const int last = s->width <= x0 ? 0 : beyond < s->out_width ? beyond : s->out_width;
                        const int32_t tap = taps[kx];
                        for (int ox = first; ox < last; ++ox) {
                            const uint32_t product = (uint32_t)((line[ox * step + x0] - zero) * tap);
                            row[ox] = (int32_t)((uint32_t)row[ox] + product);
                        }
                    }
                }
            }
            round_row(row, out, s->out_width, &h);
        }
    }
}

/* The largest of each window of x [C, H, W]; no code is below `low`. */
static void qg_max_pool_first__X(const X_t *x, X_t *y, const qg_window *s, int32_t low) {
    for (int c = 0; c < s->channels; ++c, x += s->height * s->width) {
        for (int oy = 0; oy < s->out_height; ++oy) {
            int top, bottom;
            const int y0 = oy * s->stride_h - s->pad_top;
            qg_inside(y0, s->height, s->kernel_h, s->dilation_h, &top, &bottom);
            for (int ox = 0; ox < s->out_width; ++ox) {
                int left, right;
                const int x0 = ox * s->stride_w - s->pad_left;
                X_t most = (X_t)low;
                qg_inside(x0, s->width, s->kernel_w, s->dilation_w, &left, &right);
                for (int ky = top; ky < bottom; ++ky) {
                    const X_t *const line = x + (y0 + ky * s->dilation_h) * s->width + x0;
                    for (int kx = left; kx < right; ++kx) {
                        most = line[kx * s->dilation_w] > most ? line[kx * s->dilation_w] : most;
                    }
                }
                *y++ = most;
            }
        }
    }
}

/* How codes become floats, and floats codes. */
typedef struct {
    float scale, made;
    int32_t zero_point, made_zero_point, low, high;
} qg_floats;

/* The mean of each window of x [C, H, W]: floats added one after another, over the elements inside, or over `count` of
 * them. Source: ONNX Runtime qlinear_pool.cc. */
static void qg_mean_of_floats__X(const X_t *x, X_t *y, const qg_window *s, int count, const qg_floats *f) {
    for (int c = 0; c < s->channels; ++c, x += s->height * s->width) {
        for (int oy = 0; oy < s->out_height; ++oy) {
            int top, bottom;
            const int y0 = oy * s->stride_h - s->pad_top;
            qg_inside(y0, s->height, s->kernel_h, 1, &top, &bottom);
            for (int ox = 0; ox < s->out_width; ++ox) {
                int left, right;
                const int x0 = ox * s->stride_w - s->pad_left;
                float total = 0.0f;
                qg_inside(x0, s->width, s->kernel_w, 1, &left, &right);
                for (int ky = top; ky < bottom; ++ky) {
                    for (int kx = left; kx < right; ++kx) {
                        total += (float)(x[(y0 + ky) * s->width + x0 + kx] - f->zero_point) * f->scale;
                    }
                }
                total /= (float)(count > 0 ? count : (bottom - top) * (right - left));
                *y++ = (X_t)qg_nearest(total / f->made + (float)f->made_zero_point, f->low, f->high);
            }
        }
    }
}

/* a * scale + (b * other + offset), both sums of a product rounded once; a step of 0 repeats one code.
 * Source: ONNX Runtime MlasQLinearAdd, x86. */
static void qg_sum_of_floats__X(const X_t *a, const X_t *b, X_t *y, int n, int step_a, int step_b, float scale,
                                float other, float offset, int32_t low, int32_t high) {
    for (int i = 0; i < n; ++i) {
        const float part = (float)((double)b[i * step_b] * other + offset);
        const float total = (float)((double)a[i * step_a] * scale + part);
        y[i] = (X_t)qg_nearest(total, low, high);
    }
}

/* The product of codes minus their zero points, times a factor, plus a zero point, in floats; a step of 0 repeats one
 * code. Source: ONNX Runtime MlasQLinearMul, x86. */
static void qg_product_of_floats__X(const X_t *a, const X_t *b, X_t *y, int n, int step_a, int step_b, int32_t zero_a,
                                    int32_t zero_b, float factor, float zero, int32_t low, int32_t high) {
    for (int i = 0; i < n; ++i) {
        const int32_t product = (a[i * step_a] - zero_a) * (b[i * step_b] - zero_b);
        const float scaled = (float)product * factor;
        y[i] = (X_t)qg_nearest(scaled + zero, low, high);
    }
}

/* Requantizes the sum of each of `rows` rows of n codes minus their zero points. */
static void qg_row_sums__X(const X_t *x, void *y, int rows, int n, int32_t zero, int size_y, qg_rounding round_row,
                           const void *how) {
    unsigned char *out = y;
    for (int r = 0; r < rows; ++r, x += n, out += size_y) {
        int32_t total = 0;
        for (int i = 0; i < n; ++i) {
            total += x[i] - zero;
        }
        round_row(&total, out, 1, how);
    }
}

/* clamp(rint(x / scale) + zero_point), ties to even; NaN gives the lowest code. */
static void qg_quantize_nearest__Y(const float *x, Y_t *y, int n, float scale, float zero, float low, float high) {
    for (int i = 0; i < n; ++i) {
        const float code = rintf(x[i] / scale) + zero;
        y[i] = (Y_t)(code > high ? high : code > low ? code : low);
    }
}

/* Softmax of n codes that are `inner` apart: exponentials by a table, at the largest code minus each, added one after
 * another as floats, times steps over that sum in double. Source: ONNX Runtime qlinear_softmax.cc. */
static void qg_softmax_of_floats__X(const X_t *x, X_t *y, int outer, int n, int inner, const float *table, float steps,
                                    int32_t zero, int32_t low, int32_t high) {
    for (int o = 0; o < outer; ++o) {
        for (int i = 0; i < inner; ++i) {
            const X_t *const from = x + o * n * inner + i;
            X_t *const to = y + o * n * inner + i;
            int32_t most = from[0];
            float total = 0.0f;
            for (int k = 1; k < n; ++k) {
                most = from[k * inner] > most ? from[k * inner] : most;
            }
            for (int k = 0; k < n; ++k) {
                total += table[255 - (most - from[k * inner])];
            }
            for (int k = 0; k < n; ++k) {
                const double value = rint((double)table[255 - (most - from[k * inner])] * (double)steps / (double)total) + zero;
                to[k * inner] = (X_t)(value > high ? high : value > low ? (int32_t)value : low);
            }
        }
    }
}

/* Rows of n codes into every y that are `apart`, each by a table at its bits. */
static void qg_join__X_U(const X_t *x, X_t *y, int rows, int n, int apart, const X_t *table) {
    for (int r = 0; r < rows; ++r, x += n, y += apart) {
        for (int i = 0; i < n; ++i) {
            y[i] = table[(U_t)x[i]];
        }
    }
}
