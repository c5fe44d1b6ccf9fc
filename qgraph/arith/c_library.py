"""`expf`, `logf`, `expm1f`, `tanhf`, `erfcf` of the C library, bit for bit as glibc 2.36 computes them.

LiteRT's kernels call the C library, and a last bit decides where a result lies on a rounding tie: for every fourth
argument of tanhf and every seventh of erfcf the nearest float32 is another one. Other libraries (glibc rounds correctly
from 2.41 on) may give a neighbouring code on such ties. Each was compared with glibc 2.36 on x86-64 on 500,000
arguments and more: none differs.
"""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
PRECISE = Context(prec=40)
"""Decimals that round to the nearest float64 on every platform."""

LN2_HIGH, LN2_LOW = np.float32(6.9313812256e-01), np.float32(9.0580006145e-06)
INVERSE_LN2 = np.float32(1.4426950216)
COEFFICIENTS = np.array(
    [-3.3333335072e-02, 1.5873016091e-03, -7.9365076090e-05, 4.0082177293e-06, -2.0109921195e-07], np.float32
)
HALF, ONE, TWO, THREE, SIX = (np.float32(value) for value in (0.5, 1, 2, 3, 6))
HALF_LN2, THREE_HALVES_LN2 = np.float32(0.34657359), np.float32(1.0397208)
TINY, SATURATED = np.float32(2.0**-25), np.float32(18.714973)  # below: x itself; beyond: -1


EXP_PARTS = 32  # of each power of two
EXP_POLYNOMIAL = [float.fromhex(c) for c in ("0x1.c6af84b912394p-5", "0x1.ebfce50fac4f3p-3", "0x1.62e42ff0c52d6p-1")]
EXP_TABLE = np.array([float(PRECISE.power(2, Decimal(part) / EXP_PARTS)) for part in range(EXP_PARTS)])


def expf(x: Float32) -> Float32:
    """exp(x) in float64, rounded: 2**(k / 32) from a table and a polynomial of degree 3 on the rest.

    Source: glibc sysdeps/ieee754/flt-32/e_expf.c, from 2.27 on (also musl and bionic: ARM's optimized routines).
    """
    scaled = float.fromhex("0x1.71547652b82fep+0") * EXP_PARTS * np.clip(np.asarray(x, np.float64), -150, 150)
    k = np.rint(scaled)
    r = scaled - k
    cubic, square, linear = (c / EXP_PARTS**power for c, power in zip(EXP_POLYNOMIAL, (3, 2, 1), strict=True))
    polynomial = (cubic * r + square) * (r * r) + (linear * r + 1)
    parts = k.astype(np.int64)
    with np.errstate(over="ignore", under="ignore"):
        power = np.ldexp(EXP_TABLE[parts % EXP_PARTS], parts // EXP_PARTS)
        return np.asarray(polynomial * power).astype(np.float32)


LOG_INVERSES = [
    float.fromhex(f"0x1.{digits}p{exponent}")
    for exponent, of_exponent in (
        (0, ("661ec79f8f3be", "571ed4aaf883d", "49539f0f010b", "3c995b0b80385", "30d190c8864a5", "25e227b0b8ea")),
        (0, ("1bb4a4a1a343f", "12358f08ae5ba", "0953f419900a7", "0")),
        (-1, ("e608cfd9a47ac", "ca4b31f026aa", "b2036576afce6", "9c2d163a1aa2d", "886e6037841ed", "767dcf5534862")),
    )
    for digits in of_exponent
]
"""1 / c for a c in each of 16 parts of [0.699, 1.398)."""
LOGS = np.array([-float(PRECISE.ln(Decimal(inverse))) for inverse in LOG_INVERSES])
LOG_POLYNOMIAL = [float.fromhex(c) for c in ("-0x1.00ea348b88334p-2", "0x1.5575b0be00b6ap-2", "-0x1.ffffef20a4123p-2")]
LN2, LOWEST = float.fromhex("0x1.62e42fefa39efp-1"), 0x3F330000


def logf(x: Float32) -> Float32:
    """log(x) in float64, rounded: x = 2**k * z, the logarithm of the c next to z, a polynomial on z / c - 1.

    x normal; minus infinity at 0, NaN below.
    Source: glibc sysdeps/ieee754/flt-32/e_logf.c, from 2.27 on (also musl and bionic: ARM's optimized routines).
    """
    x = np.asarray(x, np.float32)
    above = x.view(np.int32).astype(np.int64) - LOWEST
    part, k = (above >> 19) & 15, above >> 23
    z = (x.view(np.int32) - (above & -0x800000)).astype(np.int32).view(np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        r = z * np.array(LOG_INVERSES)[part] - 1
        quartic, cubic, square = LOG_POLYNOMIAL
        tail = (quartic * (r * r) + (cubic * r + square)) * (r * r)
        made = (tail + (LOGS[part] + k * LN2 + r)).astype(np.float32)
        return np.where(x > 0, np.where(np.isinf(x), x, made), np.log(x)).astype(np.float32)


def expm1f(x: Float32) -> Float32:
    """exp(x) - 1 for x < 88: x = k * ln2 + r, abs(r) <= ln2 / 2, a rational approximation on r, a case for each k.

    Source: fdlibm s_expm1.c in float32 (glibc sysdeps/ieee754/flt-32/s_expm1f.c).
    """
    x = np.asarray(x, np.float32)
    with np.errstate(all="ignore"):
        k = _multiples_of_ln2(x)
        high, low = x - k * LN2_HIGH, k * LN2_LOW
        r = np.where(k == 0, x, high - low)
        lost = np.where(k == 0, np.float32(0), (high - r) - low)
        whole = _recombined(r, lost, k.astype(np.int64))
        saturated = (np.abs(x) >= SATURATED) & (x < 0)
        return np.where(saturated, -ONE, np.where(np.abs(x) < TINY, x, whole)).astype(np.float32)


def _multiples_of_ln2(x: Float32) -> Float32:
    magnitude, side = np.abs(x), np.where(np.signbit(x), -ONE, ONE)
    k = np.where(magnitude < THREE_HALVES_LN2, side, np.trunc(INVERSE_LN2 * x + HALF * side))
    return np.where(magnitude > HALF_LN2, k, np.float32(0)).astype(np.float32)


def _recombined(r: Float32, lost: Float32, k: NDArray[np.int64]) -> Float32:
    """2**k * exp(r + lost) - 1, from the correction e that the approximation on r gives."""
    half_r = HALF * r
    half_square = r * half_r
    polynomial = np.zeros_like(r)
    for coefficient in COEFFICIENTS[::-1]:
        polynomial = half_square * (coefficient + polynomial)
    r1 = ONE + polynomial
    t = THREE - r1 * half_r
    e = half_square * ((r1 - t) / (SIX - r * t))
    at_0 = r - (r * e - half_square)
    e = (r * (e - lost) - lost) - half_square
    power = np.ldexp(ONE, k).astype(np.float32)
    at_1 = np.where(r < np.float32(-0.25), -TWO * (e - (r + HALF)), ONE + TWO * (r - e))
    far = (ONE - (e - r)) * power - ONE
    to_22 = ((ONE - ONE / power) - (e - r)) * power
    to_56 = ((r - (e + ONE / power)) + ONE) * power
    cases = [k == 0, k == -1, k == 1, (k <= -2) | (k > 56), k < 23]
    return np.select(cases, [at_0, HALF * (r - e) - HALF, at_1, far, to_22], to_56)


def tanhf(x: Float32) -> Float32:
    """tanh(x) from expm1f(2 * abs(x)), below 1 from expm1f(-2 * abs(x)); 1 from 22 on.

    Source: fdlibm s_tanh.c in float32 (glibc sysdeps/ieee754/flt-32/s_tanhf.c).
    """
    x = np.asarray(x, np.float32)
    magnitude = np.abs(x)
    large = magnitude >= 1
    with np.errstate(all="ignore"):
        t = expm1f(np.where(large, TWO * magnitude, -TWO * magnitude))
        positive = np.where(large, ONE - TWO / (t + TWO), -t / (t + TWO))
    return np.copysign(np.where(magnitude >= 22, ONE, positive), x).astype(np.float32)


def _rational(coefficients: str) -> NDArray[np.float32]:
    return np.array([float(word) for word in coefficients.split()], np.float32)


ERX = np.float32(0.84506291151)
SMALL = (
    _rational("1.2837916613e-01 -3.2504209876e-01 -2.8481749818e-02 -5.7702702470e-03 -2.3763017452e-05"),
    _rational("1 3.9791721106e-01 6.5022252500e-02 5.0813062117e-03 1.3249473704e-04 -3.9602282413e-06"),
)
AROUND_1 = (
    _rational(
        "-2.3621185683e-03 4.1485610604e-01 -3.7220788002e-01 3.1834661961e-01 -1.1089469492e-01 3.5478305072e-02 "
        "-2.1663755178e-03"
    ),
    _rational(
        "1 1.0642088205e-01 5.4039794207e-01 7.1828655899e-02 1.2617121637e-01 1.3637083583e-02 1.1984500103e-02"
    ),
)
MIDDLE = (
    _rational(
        "-9.8649440333e-03 -6.9385856390e-01 -1.0558626175e+01 -6.2375331879e+01 -1.6239666748e+02 -1.8460508728e+02 "
        "-8.1287437439e+01 -9.8143291473e+00"
    ),
    _rational(
        "1 1.9651271820e+01 1.3765776062e+02 4.3456588745e+02 6.4538726807e+02 4.2900814819e+02 1.0863500214e+02 "
        "6.5702495575e+00 -6.0424413532e-02"
    ),
)
FAR = (
    _rational(
        "-9.8649431020e-03 -7.9928326607e-01 -1.7757955551e+01 -1.6063638306e+02 -6.3756646729e+02 -1.0250950928e+03 "
        "-4.8351919556e+02"
    ),
    _rational(
        "1 3.0338060379e+01 3.2579251099e+02 1.5367296143e+03 3.1998581543e+03 2.5530502930e+03 4.7452853394e+02 "
        "-2.2440952301e+01"
    ),
)
"""Numerators and denominators, from the constant term up, of the four ranges of `erfcf`."""
MIDDLE_END = np.float32(2.857143)  # 1 / 0.35, the largest float32 below it


def erfcf(x: Float32) -> Float32:
    """1 - erf(x), by a rational function on each of four ranges of abs(x).

    Source: fdlibm s_erf.c in float32 (glibc sysdeps/ieee754/flt-32/s_erff.c).
    """
    x = np.asarray(x, np.float32)
    with np.errstate(all="ignore"):
        magnitude = np.abs(x)
        ranges = [magnitude < np.float32(0.84375), magnitude < np.float32(1.25), magnitude < np.float32(28)]
        beyond = np.where(x > 0, np.float32(0), TWO)
        made = np.select(ranges, [_erfc_small(x), _erfc_around_1(x), _erfc_large(x)], beyond)
        return np.where(x < -SIX, TWO, made).astype(np.float32)


def _erfc_small(x: Float32) -> Float32:
    z = x * x
    y = _quotient(SMALL, z)
    near_0, near_1 = ONE - (x + x * y), HALF - (x * y + (x - HALF))
    return np.where(np.abs(x) < np.float32(2.0**-26), ONE - x, np.where(x < np.float32(0.25), near_0, near_1))


def _erfc_around_1(x: Float32) -> Float32:
    ratio = _quotient(AROUND_1, np.abs(x) - ONE)
    return np.where(x >= 0, (ONE - ERX) - ratio, ONE + (ERX + ratio))


def _erfc_large(x: Float32) -> Float32:
    """exp(-x^2 - 0.5625 + R/S) / x, the square in two parts: that of x without its last 13 bits is exact."""
    magnitude = np.abs(x)
    s = np.asarray(ONE / (magnitude * magnitude), np.float32)
    ratio = np.where(magnitude < MIDDLE_END, _quotient(MIDDLE, s), _quotient(FAR, s))
    short = (magnitude.view(np.int32) & np.int32(-0x2000)).view(np.float32)
    rest = (short - magnitude) * (short + magnitude) + ratio
    tail = expf(-short * short - np.float32(0.5625)) * expf(rest) / magnitude
    return np.where(x > 0, tail, TWO - tail)


def _quotient(coefficients: tuple[NDArray[np.float32], NDArray[np.float32]], x: Float32) -> Float32:
    """Numerator by denominator, each by Horner's rule."""
    parts = []
    for polynomial in coefficients:
        value = np.full_like(x, polynomial[-1])
        for coefficient in polynomial[-2::-1]:
            value = coefficient + x * value
        parts.append(value)
    return np.asarray(parts[0] / parts[1])
