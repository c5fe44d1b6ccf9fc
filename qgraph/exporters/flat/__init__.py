"""FlatBuffers files by a table of field numbers: one schema a format, one reader that checks every offset, one writer.

No format here: `.tflite` and `.tosa` each have a `Schema` of their own. Generated bindings check nothing, and files are
not trusted.
"""

from qgraph.exporters.flat.reader import FlatFile, Option, Table, damaged, root
from qgraph.exporters.flat.schema import SCALAR_DTYPES, Array, Field, Schema, names
from qgraph.exporters.flat.writer import Member, Record, write_root

__all__ = [
    "SCALAR_DTYPES",
    "Array",
    "Field",
    "FlatFile",
    "Member",
    "Option",
    "Record",
    "Schema",
    "Table",
    "damaged",
    "names",
    "root",
    "write_root",
]
