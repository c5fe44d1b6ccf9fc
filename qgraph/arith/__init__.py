"""The integer arithmetic that all targets share, in NumPy; by torch where that is loaded and faster.

| module | what it computes |
|---|---|
| `rounding` | round half away from zero, half to even, divisions that truncate or round |
| `fixed_point` | multiplier and shift from a real factor; multiplication by them with one or two roundings |
| `requantize` | accumulators to 8- or 16-bit outputs, in the ways the runtimes do it |
| `accumulate` | exact integer convolution, depthwise convolution and matrix product |
| `prepared_weight` | weights kept in the form that `accumulate` multiplies with, and the bounds that prove it exact |
| `accumulation` | what that gives: accumulators in blocks, which are requantized while they are in the cache |
| `products`, `torch_products` | the products behind it: of BLAS, or torch where it is loaded and proves exact |
| `depthwise` | the multiply-add over kernel positions behind `accumulate.depthwise_convolve` |
| `pooling` | maximum, sum and count over sliding windows |
| `windows` | sliding windows, padding, output sizes |
| `exactness` | which dtype holds an accumulator exactly |
| `channel_rows` | per-channel parameters applied to long contiguous rows |
| `gemmlowp` | fixed-point exp, logistic, tanh; the multiplications and shifts they are made of |
| `inverse_square_root` | 1 / sqrt(v) of an integer as multiplier and shift |
| `c_library` | expf, logf, expm1f, tanhf, erfcf as the C library computes them |
| `tosa_scale` | multiplication by multiplier and right shift as the TOSA specification has it |
| `stages` | programs of typed stages: any accelerator's elementwise arithmetic, in words, with exact ranges |
| `stages_grammar`, `stages_words`, `stages_conditions` | how a stage is written, what it does, where it acts |
| `stages_rows` | a program made ready for constants, on rows that stay in the cache |
| `stages_rounding`, `stages_widths` | the eight roundings; widths, and how they saturate or wrap |
| `narrow_accumulator` | accumulators of any width that wrap or saturate, at the end or on the way, and their ranges |
| `fused` | the fused multiply-add of float32 |
"""
