/* Accumulators as they are, where what requantizes a row is asked for. */
static void qg_keep__A(const void *acc, void *y, int n, const void *how) {
    (void)how;
    memcpy(y, acc, (size_t)n * sizeof(A_t));
}

/* The sum of x - zero over what lies inside each window. */
static void qg_window_sum__X_A(const X_t *x, A_t *y, const qg_window *s, int32_t zero) {
    for (int oy = 0; oy < s->out_height; ++oy) {
        int top, bottom;
        const int y0 = oy * s->stride_h - s->pad_top;
        qg_inside(y0, s->height, s->kernel_h, 1, &top, &bottom);
        for (int ox = 0; ox < s->out_width; ++ox, y += s->channels) {
            int left, right;
            const int x0 = ox * s->stride_w - s->pad_left;
            qg_inside(x0, s->width, s->kernel_w, 1, &left, &right);
            memset(y, 0, (size_t)s->channels * sizeof *y);
            for (int ky = top; ky < bottom; ++ky) {
                for (int kx = left; kx < right; ++kx) {
                    const X_t *const from = x + ((y0 + ky) * s->width + x0 + kx) * s->channels;
                    for (int c = 0; c < s->channels; ++c) {
                        y[c] = (A_t)(y[c] + (from[c] - zero));
                    }
                }
            }
        }
    }
}

/* The largest of each window, of which what lies outside is `pad`. */
static void qg_largest__X(const X_t *x, X_t *y, const qg_window *s, int32_t pad) {
    for (int oy = 0; oy < s->out_height; ++oy) {
        int top, bottom;
        const int y0 = oy * s->stride_h - s->pad_top;
        qg_inside(y0, s->height, s->kernel_h, 1, &top, &bottom);
        for (int ox = 0; ox < s->out_width; ++ox, y += s->channels) {
            int left, right;
            const int x0 = ox * s->stride_w - s->pad_left;
            qg_inside(x0, s->width, s->kernel_w, 1, &left, &right);
            const int whole = bottom - top == s->kernel_h && right - left == s->kernel_w;
            for (int c = 0; c < s->channels; ++c) {
                y[c] = whole ? x[((y0 + top) * s->width + x0 + left) * s->channels + c] : (X_t)pad;
            }
            for (int ky = top; ky < bottom; ++ky) {
                for (int kx = left; kx < right; ++kx) {
                    const X_t *const from = x + ((y0 + ky) * s->width + x0 + kx) * s->channels;
                    for (int c = 0; c < s->channels; ++c) {
                        y[c] = from[c] > y[c] ? from[c] : y[c];
                    }
                }
            }
        }
    }
}

/* clamp(rint(x / scale) + zero_point), ties to even; NaN gives the lowest code. */
static void qg_quantize_nearest__Y(const float *x, Y_t *y, int n, float scale, float zero, float low, float high) {
    for (int i = 0; i < n; ++i) {
        const float code = rintf(x[i] / scale) + zero;
        y[i] = (Y_t)(code > high ? high : code > low ? code : low);
    }
}
