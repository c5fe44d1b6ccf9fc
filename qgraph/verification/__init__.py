"""`qgraph.verify`: is the interpreter, byte for byte, the real runtime?"""

from qgraph.verification.report import NodeReport, OutputReport, Verification
from qgraph.verification.verify_runtime import verify

__all__ = ["NodeReport", "OutputReport", "Verification", "verify"]
