"""Passes over graphs, one file a pass. Each is callable as a function that returns a new graph."""

from qgraph.passes.absorb_biases import absorb_biases
from qgraph.passes.batchnorm_to_scale_shift import batchnorm_to_scale_shift
from qgraph.passes.canonicalize import canonicalize
from qgraph.passes.check_lowerable import check_lowerable
from qgraph.passes.convert_layout import convert_layout
from qgraph.passes.decompose import decompose
from qgraph.passes.drop_dead_code import drop_dead_code
from qgraph.passes.drop_dropout import drop_dropout
from qgraph.passes.drop_unreachable import drop_unreachable
from qgraph.passes.eliminate_common_subexpressions import eliminate_common_subexpressions
from qgraph.passes.engine.registry import get, graph_pass, names
from qgraph.passes.equalize import equalize
from qgraph.passes.extract import extract
from qgraph.passes.fold_batchnorm import fold_batchnorm
from qgraph.passes.fold_constants import fold_constants
from qgraph.passes.fold_mul_add import fold_mul_add
from qgraph.passes.fuse_conv_relu import fuse_conv_relu
from qgraph.passes.infer_types import infer_types
from qgraph.passes.insert_fake_quant import insert_fake_quant
from qgraph.passes.legalize import legalize
from qgraph.passes.lower import lower
from qgraph.passes.partition import partition
from qgraph.passes.raise_to_fake_quant import raise_to_fake_quant
from qgraph.passes.recognize import recognize
from qgraph.passes.set_batch import set_batch
from qgraph.passes.simplify import simplify
from qgraph.passes.strip_fake_quant import strip_fake_quant

__all__ = [
    "absorb_biases",
    "batchnorm_to_scale_shift",
    "canonicalize",
    "check_lowerable",
    "convert_layout",
    "decompose",
    "drop_dead_code",
    "drop_dropout",
    "drop_unreachable",
    "eliminate_common_subexpressions",
    "equalize",
    "extract",
    "fold_batchnorm",
    "fold_constants",
    "fold_mul_add",
    "fuse_conv_relu",
    "get",
    "graph_pass",
    "infer_types",
    "insert_fake_quant",
    "legalize",
    "lower",
    "names",
    "partition",
    "raise_to_fake_quant",
    "recognize",
    "set_batch",
    "simplify",
    "strip_fake_quant",
]
