"""Run a graph of any level in NumPy; an integer graph gives the bytes of its target's runtime."""

from qgraph.interpreter.execute import execute
from qgraph.interpreter.inputs import prepare_inputs, quantize_inputs
from qgraph.interpreter.run_graph import run
from qgraph.interpreter.streaming import Stream

__all__ = ["Stream", "execute", "prepare_inputs", "quantize_inputs", "run"]
