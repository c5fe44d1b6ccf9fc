"""The .tflite file format: `read` and `write` between bytes and a `Model`.

No target and no IR here, only what the format says. The schema is a table of field numbers (`schema`, `enums`) under
one reader that checks every offset and one writer: generated bindings check nothing, and files are not trusted.
"""

from qgraph.exporters.flat import Option
from qgraph.exporters.tflite.model import Model, Operator, Quantization, Signature, SubGraph, Tensor
from qgraph.exporters.tflite.reader import read
from qgraph.exporters.tflite.schema import zero_options
from qgraph.exporters.tflite.storage import PACKED_BITS, pack, unpack
from qgraph.exporters.tflite.versions import lowest_version
from qgraph.exporters.tflite.writer import write

__all__ = [
    "PACKED_BITS",
    "Model",
    "Operator",
    "Option",
    "Quantization",
    "Signature",
    "SubGraph",
    "Tensor",
    "lowest_version",
    "pack",
    "read",
    "unpack",
    "write",
    "zero_options",
]
