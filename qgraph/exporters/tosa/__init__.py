"""The .tosa file format: `read` and `write` between bytes and a `Model`. No target and no IR here."""

from qgraph.exporters.tosa.model import Model, Operator, Tensor
from qgraph.exporters.tosa.reader import read
from qgraph.exporters.tosa.storage import encode
from qgraph.exporters.tosa.writer import write

__all__ = ["Model", "Operator", "Tensor", "encode", "read", "write"]
