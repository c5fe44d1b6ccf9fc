"""ESP-PPQ: accumulators on the grid of the output, x * 2**-shift, rounded by the chip's policy and clipped to s8."""

import importlib.util
import sys
import types
from pathlib import Path

import numpy as np
import torch
from python_rows import groups, serve

root = next(Path(p) for p in sys.path if (Path(p) / "esp_ppq").is_dir()) / "esp_ppq"


def module(name: str, path: str):
    """One file of the package, whose whole needs much that is not needed here."""
    spec = importlib.util.spec_from_file_location(name, root / path)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


for package in ("esp_ppq", "esp_ppq.core", "esp_ppq.utils"):
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [str(root.parent / package.replace(".", "/"))]
quant = module("esp_ppq.core.quant", "core/quant.py")
sys.modules["esp_ppq.core"].RoundingPolicy = quant.RoundingPolicy
rounding = module("esp_ppq.utils.round", "utils/round.py")


def rounded(policy: str):
    def of_rows(table: np.ndarray) -> np.ndarray:
        made = np.empty(len(table))
        for place, (shift,) in groups(table, 1):
            x = torch.from_numpy((table[place, 0] * 2.0**-shift).astype(np.float32))
            made[place] = rounding.ppq_tensor_round(x, quant.RoundingPolicy[policy]).clamp(-128, 127).numpy()
        return made

    return of_rows


serve({"s3": rounded("ROUND_HALF_UP"), "p4": rounded("ROUND_HALF_EVEN"), "weights": rounded("ROUND_HALF_TOWARDS_ZERO")})
