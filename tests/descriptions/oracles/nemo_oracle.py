"""NEMO's integer requantization, addition and average: multipliers D * eps_in / eps_out, and D a power of two."""

import importlib
import sys
import types
from pathlib import Path

import numpy as np
import torch
from python_rows import groups, serve

root = next(Path(p) for p in sys.path if (Path(p) / "nemo").is_dir())
for package in ("nemo", "nemo.quant"):  # without what they import: torchvision, scikit-learn
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = [str(root / package.replace(".", "/"))]
pact = importlib.import_module("nemo.quant.pact")

ONE = torch.tensor(1.0, dtype=torch.float64)


def requantized(table: np.ndarray) -> np.ndarray:
    made = np.empty(len(table))
    for place, (multiplier, shift) in groups(table, 1):
        ratio = torch.tensor(float(multiplier), dtype=torch.float64) / 2.0**shift
        made[place] = pact.pact_integer_requantize(torch.from_numpy(table[place, 0]), ratio, ONE, 2**shift).numpy()
    return made


def added(table: np.ndarray) -> np.ndarray:
    made = np.empty(len(table))
    for place, (first, second, shift) in groups(table, 2):
        ratios = [torch.tensor(float(m), dtype=torch.float64) / 2.0**shift for m in (first, second)]
        a, b = (torch.from_numpy(table[place, i].astype(np.float64)) for i in (0, 1))
        made[place] = pact.pact_integer_requantize_add(a, b, eps_in_list=ratios, eps_out=ONE, D=2.0**shift).numpy()
    return made


def averaged(table: np.ndarray) -> np.ndarray:
    """Columns: sum, four elements."""
    pool = pact.PACT_IntegerAvgPool2d(2)
    return pool(torch.from_numpy(table[:, 1:].astype(np.float32).reshape(-1, 1, 2, 2))).numpy().reshape(-1)


serve({"requantize": requantized, "add": added, "average": averaged})
