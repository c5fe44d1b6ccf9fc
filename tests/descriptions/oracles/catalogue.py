"""The oracles: what each is, how it is made to run here, and the rows that it is asked for."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from tests.descriptions.golden import Case
from tests.descriptions.oracles.boundaries import Rows, near_steps, rows
from tests.descriptions.oracles.programs import compiled, python, results

GENERATOR = np.random.default_rng(20261128)
MULTIPLIERS = (1 << 30, (1 << 30) + 1, 3 << 29, 1518500250, (1 << 31) - 1, 0)
HALF = 1 << 15


@dataclass(frozen=True)
class Oracle:
    """Somebody's code. `build(source, folder)` makes its program of a checkout or an installed package's folder."""

    name: str
    source: str
    build: Callable[[Path, Path], list[str]]
    cases: dict[str, tuple[str, Callable[[], Rows]]]  # name -> columns, rows


def recorded(oracle: Oracle, source: Path) -> dict[str, Case]:
    """What the oracle gives for all of its rows."""
    made = {}
    with tempfile.TemporaryDirectory() as folder:
        command = oracle.build(source, Path(folder))
        for name, (columns, table) in oracle.cases.items():
            table_of = table()
            y = results(command, name, table_of)
            made[name.replace(" ", "_")] = Case(dict(zip(columns.split(), table_of.T, strict=True)), y)
    return made


def requantized() -> Rows:
    """x, multiplier, left_shift, right_shift, shift: Q31 multipliers, where shift = 31 + right - left."""
    found = []
    for multiplier in MULTIPLIERS:
        for left, right in ((0, 0), (1, 0), (5, 0), (0, 1), (0, 7), (0, 8), (0, 12), (0, 20), (0, 31), (3, 0), (30, 0)):
            shift = 31 + right - left
            factor = Fraction(multiplier or 1, 1 << shift)
            values = near_steps(factor, 32 - left)
            found += [(x, multiplier, left, right, shift) for x in values]
            found += [(int(x), multiplier, left, right, shift) for x in GENERATOR.integers(-HALF, HALF, 20)]
    return rows(found, 6000)


def requantized_wide() -> Rows:
    """x of 40 bits, multiplier of 15 bits, right shift in all."""
    found = []
    for multiplier in (1 << 14, 20000, (1 << 15) - 1):
        for shift in (1, 8, 15, 16, 24, 30, 40):
            found += [(x, multiplier, shift) for x in near_steps(Fraction(multiplier, 1 << shift), min(40, shift + 16))]
    return rows(found, 3000)


def multiplied() -> Rows:
    """Two codes, their zero points, and a Q31 multiplier."""
    found = []
    for multiplier in MULTIPLIERS[:4]:
        for left, right in ((0, 0), (0, 5), (0, 7), (0, 9), (1, 0)):
            a, b = GENERATOR.integers(-128, 128, (2, 60))
            for x, y in [*zip(a, b, strict=True), (-128, -128), (127, -128), (127, 127)]:
                zeros = GENERATOR.integers(-20, 20, 3)
                found.append((int(x), int(y), *map(int, zeros), multiplier, left, right, 31 + right - left))
    return rows(found, 1500)


def added() -> Rows:
    """Two codes, three zero points, and three Q31 multipliers with right shifts, as TFLite derives them."""
    found = []
    for _ in range(40):
        scales = GENERATOR.uniform(0.01, 0.1, 3)
        twice = 2 * max(scales[:2])
        factors = (scales[0] / twice, scales[1] / twice, twice / (2**20 * scales[2]))
        words = []
        for factor in factors:
            fraction, exponent = np.frexp(factor)
            words += [int(np.floor(fraction * 2**31 + 0.5)), int(-exponent)]
        zeros = GENERATOR.integers(-30, 30, 3)
        for x, y in GENERATOR.integers(-128, 128, (40, 2)):
            found.append((int(x), int(y), *map(int, zeros), *words))
    return rows(found, 1600)


def averaged() -> Rows:
    """Sums of n elements, and n: every sum of small windows."""
    found = [(total, n) for n in (1, 2, 3, 4, 5, 7, 9, 16, 25, 49) for total in range(-128 * n, 127 * n + 1)]
    return rows(found, 3000)


def _cmsis(options: tuple[str, ...]) -> Callable[[Path, Path], list[str]]:
    def build(source: Path, folder: Path) -> list[str]:
        names = (
            "arm_elementwise_add_s8",
            "arm_elementwise_mul_s8",
            "arm_avgpool_s8",
            "arm_avgpool_get_buffer_sizes_s8",
        )
        files = [next(source.glob(f"Source/*/{name}.c")) for name in names]
        return compiled("cmsis_nn.c", files, ["-fwrapv", f"-I{source / 'Include'}", *options], folder)

    return build


CMSIS = {
    "requantize": ("x multiplier left_shift right_shift shift", requantized),
    "requantize_wide": ("x multiplier shift", requantized_wide),
    "multiply": (
        "x second input_zero_point second_zero_point output_zero_point multiplier left_shift right_shift shift",
        multiplied,
    ),
    "add": (
        "x second input_zero_point second_zero_point output_zero_point input_multiplier input_right_shift "
        "second_multiplier second_right_shift output_multiplier output_right_shift",
        added,
    ),
    "average": ("x count", averaged),
}


def nvdla_x() -> Rows:
    """x, alu operand, its left shift, multiplier, right shift of the stages X1 and X2."""
    found = []
    for multiplier in (1, 3, -7, 255, 32767, -32768, 20000):
        for shift in (0, 1, 4, 10, 15, 20, 31, 47, 63):
            for operand, left in ((0, 0), (5, 0), (-32768, 16), (32767, 16), (-3, 31), (1, 40)):
                values = near_steps(Fraction(multiplier, 1 << shift), 32, range(-6, 7))
                found += [(x, operand, left, multiplier, shift) for x in values]
    return rows(found, 3000)


def nvdla_y() -> Rows:
    """x, multiplier of 32 bits, right shift, alu operand."""
    found = []
    for multiplier in (1, -3, 1 << 20, (1 << 31) - 1, -(1 << 31)):
        for shift in (0, 1, 7, 20, 31, 33, 62):
            for operand in (0, 77, (1 << 31) - 1, -(1 << 31)):
                found += [(x, multiplier, shift, operand) for x in near_steps(Fraction(multiplier, 1 << shift), 32)]
    return rows(found, 3000)


def nvdla_converter(bits: int) -> Callable[[], Rows]:
    """x, offset, scale of 16 bits, right shift."""

    def made() -> Rows:
        found = []
        for scale in (1, 3, -7, 16384, 20001, 32767, -32768):
            for shift in (0, 1, 5, 12, 14, 20, 31, 40, 63):
                for offset in (0, 9, -130, (1 << 31) - 1, -(1 << 31)):
                    values = near_steps(Fraction(scale, 1 << shift), bits)
                    limits = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
                    shifted = {x + offset for x in values} | set(limits)
                    found += [(x, offset, scale, shift) for x in shifted if limits[0] <= x <= limits[1]]
        return rows(found, 4000)

    return made


def nvdla_layer() -> Rows:
    """Accumulators, a bias of 16 bits, a multiplier of 15 bits, a shift."""
    found = []
    for multiplier in (16384, 20001, 32767, 1):
        for shift in (15, 20, 24, 28):
            for bias in (0, 100, -32768, 32767):
                steps = near_steps(Fraction(multiplier, 1 << shift), 32)
                found += [(max(x - bias * 64, -(1 << 31)), bias, multiplier, shift) for x in steps if abs(x) < 1 << 30]
                found += [(x, bias, multiplier, shift) for x in (-(1 << 31), (1 << 31) - 1)]
    return rows(found, 2500)


def nvdla_sum() -> Rows:
    found = []
    for _ in range(40):
        scales = GENERATOR.uniform(0.01, 0.1, 3)
        largest = max(scales[:2])
        words = []
        for factor in (4096 * scales[0] / largest, 4096 * scales[1] / largest, largest / (4096 * scales[2])):
            fraction, exponent = np.frexp(factor)
            words += [int(np.rint(fraction * 2**15)) - (fraction * 2**15 >= 32767.5), int(15 - exponent)]
        found += [(int(x), int(y), *words) for x, y in GENERATOR.integers(-128, 128, (40, 2))]
    return rows(found, 1600)


def nvdla_product() -> Rows:
    found = []
    for multiplier in (16384, 20001, 32767):
        for shift in (15, 18, 21, 24):
            found += [(int(x), int(y), multiplier, shift) for x, y in GENERATOR.integers(-128, 128, (100, 2))]
    return rows(found, 1200)


def _nvdla(source: Path, folder: Path) -> list[str]:
    """Its templates lack a keyword that compilers of today ask for."""
    hls = source / "cmod" / "hls"
    for header in (hls / "include").glob("*.h"):
        text = header.read_text(errors="replace").replace(".slc<AC_MAX(I,1)>(0)", ".template slc<AC_MAX(I,1)>(0)")
        (folder / header.name).write_text(text)
    files = [hls / "sdp" / f"sdp_{name}.cpp" for name in ("x", "c", "y_core", "y_cvt")]
    return compiled("nvdla.cpp", files, ["-std=gnu++98", "-fpermissive", f"-I{hls / 'sdp'}"], folder)


NVDLA_X = ("x operand operand_shift multiplier shift", nvdla_x)
NVDLA_Y = ("x multiplier shift operand", nvdla_y)


def normalized(bits: int, wide: bool) -> Callable[[], Rows]:
    """x, kappa, lambda, right shift of PULP-NN's batch normalization, to unsigned codes."""

    def made() -> Rows:
        found = []
        for kappa in (1, 7, 255, 4096, 32767, -3):
            for shift in (0, 1, 5, 10, 16, 24, 31):
                for addend in (0, 1 << max(shift - 1, 0), -12345):
                    values = near_steps(Fraction(kappa, 1 << shift), 32, range(-4, 2 * (1 << bits) + 4))
                    found += [(x, kappa * (1 << 20 if wide else 1), addend, shift + 20 * wide) for x in values]
        return rows(found, 2500)

    return made


def plain_quantized() -> Rows:
    found = []
    for multiplier in (1, 3, 255, 32767, -7):
        for shift in (0, 3, 8, 15, 20):
            values = near_steps(Fraction(multiplier, 1 << shift), 32, range(-4, 600))
            found += [(x, multiplier, shift) for x in values]
            found += [(int(x), multiplier, shift) for x in GENERATOR.integers(-(1 << 20), 1 << 20, 40)]
    return rows(found, 2500)


def pulp_added() -> Rows:
    found = []
    for shift in (0, 1, 4, 8, 12):
        for a, b in ((1, 1), (255, 256), (-3, 7), (32767, 32767), (100, -90)):
            found += [(int(x), int(y), a, b, shift) for x, y in GENERATOR.integers(0, 256, (40, 2))]
    return rows(found, 1200)


def _pulp(tree: str) -> Callable[[Path, Path], list[str]]:
    def build(source: Path, folder: Path) -> list[str]:
        file = source / tree / "src" / "pulp_nn_utils.c"
        text = file.read_text()
        names = ["bn_quant_u8", "bn_quant_u4", "bn_quant_u2", "quant_u8", "add_quant_u8"]
        parts = ["#define clip8(x) __builtin_pulp_clipu_r(x, 255)"]
        for name in names:
            start = text.index(f"pulp_nn_{name}")
            parts.append("static uint8_t " + text[start : text.index("\n}", start) + 3])
        (folder / "quantizers.c").write_text("\n".join(parts))
        return compiled("pulp_nn.c", [], ["-fwrapv"], folder)

    return build


def _pulp_cases(wide: bool) -> dict[str, tuple[str, Callable[[], Rows]]]:
    columns = "x kappa lambda shift"
    return {
        "bn_u8": (columns, normalized(8, wide)),
        "bn_u4": (columns, normalized(4, wide)),
        "bn_u2": (columns, normalized(2, wide)),
        "plain_u8": ("x multiplier shift", plain_quantized),
        "add_u8": ("x second input_multiplier second_multiplier shift", pulp_added),
    }


def esp_shifted(bits: int) -> Callable[[], Rows]:
    """Accumulators with their bias, and right shifts, of which negative ones go left and saturate."""

    def made() -> Rows:
        found = []
        for shift in (*range(-3, 13), 20, 30):
            steps = near_steps(Fraction(1, 1 << max(shift, 0)), min(bits, 60), range(-264, 265))
            found += [(x, shift) for x in steps]
        return rows(found, 3000)

    return made


def _esp_dl(source: Path, folder: Path) -> list[str]:
    text = (source / "esp-dl/dl/tool/src/dl_tool.cpp").read_text()
    start, end = (
        text.index("template <typename T>\nT shift_and_round_half_even"),
        text.index("template <typename T>\nT shift_and_round("),
    )
    header = (source / "esp-dl/dl/tool/include/dl_tool.hpp").read_text()
    first = header.index("template <typename T>\nvoid truncate(int32_t")
    last = header.index("// void truncate(int32_t")
    clip = "#define DL_CLIP(x, low, high) ((x) < (low) ? (low) : (x) > (high) ? (high) : (x))\nnamespace tool {\n"
    (folder / "rounding.cpp").write_text(clip + header[first:last] + "}\n" + text[start:end])
    return compiled("esp_dl.cpp", [], ["-fwrapv"], folder)


def _k210(source: Path, folder: Path) -> list[str]:
    text = (source / "include/nncase/runtime/runtime_op_utility.h").read_text()
    start = text.rindex("template", 0, text.index("bit_mask("))
    (folder / "carry.cpp").write_text(text[start : text.index("template <bool Banker = false>")])
    return compiled("k210.cpp", [], [], folder)


def bits_of(scale: float) -> int:
    """A float32 as the integer that has its bits."""
    return int(np.float32(scale).view(np.uint32))


SCALES = (1.0, 0.5, 0.25, 2.0**-7, 0.1, 0.01, 1 / 3, 2.0**-20, 1e-6, 3.7)


def stored() -> Rows:
    """Accumulators beside each step, some of more than 24 bits, and the bits of float32 scales."""
    found = []
    for scale in SCALES:
        exact = Fraction(float(np.float32(scale)))
        found += [(x, bits_of(scale)) for x in near_steps(exact, 32, range(-262, 263))]
        found += [(int(x), bits_of(scale)) for x in GENERATOR.integers(-(1 << 31), 1 << 31, 40)]
    return rows(found, 4000)


def loaded() -> Rows:
    return rows([(x, bits_of(scale)) for scale in SCALES for x in range(-128, 128)], 3000)


def shifted_even() -> Rows:
    found = [(x, n) for n in range(0, 20) for x in near_steps(Fraction(1, 1 << n), 31)]
    return rows(found, 2500)


def gemmini_added() -> Rows:
    found = []
    for a, b, c in GENERATOR.choice(SCALES, (40, 3)):
        pairs = GENERATOR.integers(-128, 128, (40, 2))
        found += [(int(x), int(y), bits_of(a), bits_of(b), bits_of(c)) for x, y in pairs]
    return rows(found, 1600)


QUANTIZATIONS = ("AP_TRN", "AP_RND", "AP_RND_ZERO", "AP_RND_MIN_INF", "AP_RND_INF", "AP_RND_CONV", "AP_TRN_ZERO")
OVERFLOWS = ("AP_WRAP", "AP_SAT", "AP_SAT_ZERO", "AP_SAT_SYM")


def cast() -> Rows:
    """Raw ap_fixed<40, 20> beside each step of ap_fixed<8, 4>, 16 bits of fraction less, and beyond its ends."""
    found = [(x,) for x in near_steps(Fraction(1, 1 << 16), 40, range(-540, 541))]
    return rows(found, 400)


def dense() -> Rows:
    """Four inputs, four weights, a bias."""
    data = GENERATOR.integers(-128, 128, (1500, 8))
    data[:100] = GENERATOR.choice([-128, 127], (100, 8))
    bias = GENERATOR.integers(-2048, 2048, (1500, 1))
    return np.concatenate([data, bias], axis=1).astype(np.int64)


def thresholds() -> Rows:
    """x and seven ascending thresholds, of which x may be one."""
    steps = np.sort(GENERATOR.integers(-500, 500, (1500, 7)), axis=1)
    x = np.where(GENERATOR.random(1500) < 0.5, GENERATOR.integers(-600, 600, 1500), steps[:, 3])
    return np.concatenate([x[:, None], steps], axis=1).astype(np.int64)


def truncated() -> Rows:
    """x of less than 24 bits, shift, bits of the result."""
    found = []
    for shift in (0, 1, 2, 5, 9):
        for bits in (2, 4, 8):
            steps = near_steps(Fraction(1, 1 << shift), 22, range(-(1 << bits) - 4, (1 << bits) + 4))
            found += [(x, shift, bits) for x in steps]
    return rows(found, 1500)


def windows(*columns: int) -> Rows:
    """The sum of four codes, the codes, and further columns one of each of the numbers."""
    codes = GENERATOR.integers(-128, 128, (1200, 4))
    codes[:8] = [
        [-128] * 4,
        [127] * 4,
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [-1, -1, 0, 0],
        [-1, 0, 0, 0],
        [3, 3, 0, 0],
        [-3] * 4,
    ]
    parts = [codes.sum(axis=1, keepdims=True), codes]
    if columns:
        parts.append(GENERATOR.choice(columns, (len(codes), 1)))
    return np.concatenate(parts, axis=1).astype(np.int64)


def nemo_requantized() -> Rows:
    """x, multiplier, shift: results of less than 24 bits, which NEMO gives as float32."""
    found = []
    for multiplier in (1, 3, 100, 255, 4095, 65535):
        for shift in (0, 1, 4, 8, 14, 16):
            steps = near_steps(Fraction(multiplier, 1 << shift), 24, range(-400, 401))
            found += [(x, multiplier, shift) for x in steps if abs(x * multiplier) >> shift < 1 << 23]
    return rows(found, 2500)


def nemo_added() -> Rows:
    found = []
    for a, b, shift in ((1, 1, 0), (3, 5, 2), (255, 100, 8), (4095, 17, 12), (1, 65535, 16)):
        found += [(int(x), int(y), a, b, shift) for x, y in GENERATOR.integers(-300, 301, (250, 2))]
    return rows(found, 1200)


def max78000_layer() -> Rows:
    """Two codes, two weights, the bias, the output shift: weights of one, so that sums lie beside each step."""
    found = []
    for shift in (-15, -8, -3, 0, 1, 2, 5, 7, 10, 15):
        for first, second, bias in ((1, 1, 0), (127, 1, 0), (-128, -1, 3), (1, -1, -128), (64, 1, 127), (90, -77, 1)):
            pairs = [(int(x), int(y)) for x, y in GENERATOR.integers(-128, 128, (40, 2))]
            pairs += [(-128, -128), (127, 127), (-128, 127), (0, 0), (1, 0), (0, 1), (64, 0), (-64, 0), (32, 32)]
            found += [(x, y, first, second, bias, shift) for x, y in pairs]
    return rows(found, 2500)


def pairs() -> Rows:
    found = GENERATOR.integers(-128, 128, (800, 2))
    return rows([(int(x), int(y)) for x, y in found] + [(-128, -128), (127, 127), (-128, 127), (127, 1)], 804)


def esp_rounded() -> Rows:
    """Accumulators of 24 bits, which ESP-PPQ holds as float32, and right shifts."""
    found = [(x, n) for n in range(0, 14) for x in near_steps(Fraction(1, 1 << n), 24, range(-264, 265))]
    return rows(found, 3000)


def tosa_rescaled(bits: int) -> Callable[[], Rows]:
    """x that RESCALE admits for the shift, with a result of int32: multiplier of so many bits, shift."""

    def made() -> Rows:
        found = []
        for multiplier in (1 << (bits - 2), (1 << (bits - 1)) - 1, 3 << (bits - 3), 19260 << (bits - 16)):
            for shift in (2, 7, 15, 30, 31, 32, 33, 38, 45, 62):
                factor = Fraction(multiplier, 1 << shift)
                limit = min(1 << (shift - 1), 1 << 31) if bits == 32 else 1 << 31
                steps = near_steps(factor, 32)
                found += [(x, multiplier, shift) for x in steps if -limit <= x < limit and abs(x * factor) < 1 << 30]
        return rows(found, 3000)

    return made


def codes_of_16_bits() -> Rows:
    return rows([(x,) for x in range(-(1 << 15), 1 << 15)], 2000)


def ne16_quantized() -> Rows:
    """Accumulators, some whose product leaves 32 bits, a bias, a scale of 8 bits, a shift."""
    found = []
    for scale in (1, 3, 100, 128, 255):
        for shift in (0, 1, 7, 12, 20, 31):
            for bias in (0, 77, -12345, 1 << 20):
                steps = near_steps(Fraction(scale, 1 << shift), 32, range(-4, 520))
                found += [
                    (x, bias, scale, shift) for x in {min(max(x - bias, -(1 << 31)), (1 << 31) - 1) for x in steps}
                ]
    return rows(found, 2500)


ORACLES = {
    oracle.name: oracle
    for oracle in (
        Oracle("cmsis-nn", "ARM-software/CMSIS-NN @99f736a63036", _cmsis(()), CMSIS),
        Oracle(
            "cmsis-nn-single",
            "ARM-software/CMSIS-NN @99f736a63036, CMSIS_NN_USE_SINGLE_ROUNDING",
            _cmsis(("-DCMSIS_NN_USE_SINGLE_ROUNDING",)),
            CMSIS,
        ),
        Oracle(
            "nvdla",
            "nvdla/hw branch nvdlav1 @8e06b1b9d85a, cmod/hls/sdp",
            _nvdla,
            {
                "layer": ("x bias multiplier shift", nvdla_layer),
                "sum": (
                    "x second input_multiplier input_shift second_multiplier second_shift "
                    "output_multiplier output_shift",
                    nvdla_sum,
                ),
                "product": ("x second multiplier shift", nvdla_product),
                "x_sum": NVDLA_X,
                "x_maximum": NVDLA_X,
                "x_relu": NVDLA_X,
                "x_prelu": NVDLA_X,
                "y_sum": NVDLA_Y,
                "y_prelu": NVDLA_Y,
                "operand": ("x offset scale shift", nvdla_converter(16)),
                "output_s8": ("x offset scale shift", nvdla_converter(32)),
                "output_s16": ("x offset scale shift", nvdla_converter(32)),
            },
        ),
        Oracle("pulp-nn", "pulp-platform/pulp-nn @288d06b, 32bit", _pulp("32bit"), _pulp_cases(False)),
        Oracle("pulp-nn-64bit", "pulp-platform/pulp-nn @288d06b, 64bit", _pulp("64bit"), _pulp_cases(True)),
        Oracle(
            "esp-dl",
            "espressif/esp-dl @12c0616de145, dl_tool.cpp",
            _esp_dl,
            {
                f"{rounding}_s{bits}": ("x shift", esp_shifted(bits))
                for rounding in ("half_up", "half_even")
                for bits in (32, 64)
            },
        ),
        Oracle(
            "k210",
            "kendryte/nncase branch release/1.0 @cb3fc2df3648, include/nncase/runtime/runtime_op_utility.h",
            _k210,
            dict.fromkeys(("banker", "half_up"), ("x shift", shifted_even)),
        ),
        Oracle(
            "gemmini",
            "ucb-bar/gemmini-rocc-tests @180c46848eca, include/gemmini_params.h",
            lambda source, folder: compiled("gemmini.c", [], [f"-I{source}"], folder),
            {
                "store": ("x scale_bits", stored),
                "load": ("x scale_bits", loaded),
                "shift": ("x shift", shifted_even),
                "add": ("x second input_scale_bits second_scale_bits output_scale_bits", gemmini_added),
            },
        ),
        Oracle(
            "ap_fixed",
            "hls4ml 1.3.0, templates/vivado/ap_types",
            lambda source, folder: compiled("ap_fixed.cpp", [], [f"-I{source / 'templates/vivado/ap_types'}"], folder),
            {
                **{f"{q} {o}": ("x", cast) for q in QUANTIZATIONS for o in OVERFLOWS},
                "dense default": ("x x1 x2 x3 w0 w1 w2 w3 bias", dense),
                "dense rounded": ("x x1 x2 x3 w0 w1 w2 w3 bias", dense),
                "dense wide": ("x x1 x2 x3 w0 w1 w2 w3 bias", dense),
            },
        ),
        Oracle(
            "tosa",
            "tosa-tools 2026.8.0, the reference model (SOURCE: a Python with qgraph; QGRAPH_TOSA_PYTHON: one with it)",
            python("tosa_oracle.py"),
            {
                "single_32": ("x multiplier shift", tosa_rescaled(32)),
                "double_32": ("x multiplier shift", tosa_rescaled(32)),
                "single_16": ("x multiplier shift", tosa_rescaled(16)),
                "average": ("x x0 x1 x2 x3", windows),
                "table_16": ("x", codes_of_16_bits),
            },
        ),
        Oracle(
            "qonnx",
            "qonnx 1.0.0: multithreshold, trunc_v2, QuantAvgPool2d",
            python("qonnx_oracle.py"),
            {
                "threshold": ("x t0 t1 t2 t3 t4 t5 t6", thresholds),
                "average": ("x x0 x1 x2 x3 bits", lambda: windows(2, 4, 8, 10)),
                **{f"trunc_{mode}": ("x shift bits", truncated) for mode in ("floor", "round", "ceil")},
            },
        ),
        Oracle(
            "nemo",
            "pytorch-nemo 0.0.8, nemo/quant/pact.py",
            python("nemo_oracle.py"),
            {
                "requantize": ("x multiplier shift", nemo_requantized),
                "add": ("x second input_multiplier second_multiplier shift", nemo_added),
                "average": ("x x0 x1 x2 x3", windows),
            },
        ),
        Oracle(
            "ne16",
            "pulp-platform/pulp-nnx @c4f6ba351e30, test/NeuralEngineFunctionalModel.py",
            python("ne16_oracle.py"),
            {"quantized": ("x bias multiplier shift", ne16_quantized)},
        ),
        Oracle(
            "max78000",
            "analogdevicesinc/ai8x-synthesis @ab4f4c01f205, izer/simulate.py, compute.py",
            python("max78000_oracle.py"),
            {
                **dict.fromkeys(("layer", "layer_relu", "layer_abs"), ("x x1 w0 w1 bias output_shift", max78000_layer)),
                "average": ("x x0 x1 x2 x3", windows),
                "average_rounded": ("x x0 x1 x2 x3", windows),
                "add": ("x second", pairs),
            },
        ),
        Oracle(
            "esp-ppq",
            "esp-ppq 1.3.12, utils/round.py",
            python("esp_ppq_oracle.py"),
            dict.fromkeys(("s3", "p4", "weights"), ("x shift", esp_rounded)),
        ),
    )
}
