"""`qgraph.verify`: is the interpreter, byte for byte, the real runtime?"""

from qgraph.verification.report import Difference, OutputReport, Verification
from qgraph.verification.verify_runtime import verify

__all__ = ["Difference", "OutputReport", "Verification", "verify"]
