"""Float graphs run by ONNX Runtime itself, in this process: what calibration observes are the runtime's own floats."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from qgraph.errors import ExportError, InputError
from qgraph.exporters import onnx_float
from qgraph.ir import Array, Graph
from qgraph.targets.target import FloatProgram

REFUSALS = ("Fail", "InvalidArgument", "InvalidGraph", "NotImplemented")
"""Exceptions of onnxruntime for a model that it does not take."""


def float_program(graph: Graph) -> FloatProgram | None:
    """The graph's outputs for arrays by input name; None where ONNX Runtime is not installed, or has no such ops."""
    if importlib.util.find_spec("onnxruntime") is None:
        return None
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    try:
        model = onnx_float.to_onnx(graph)
    except ExportError:
        return None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised
    options.enable_cpu_mem_arena = False  # which keeps what the largest part took
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    refusals = tuple(getattr(state, name) for name in REFUSALS)
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except refusals:
        return None
    names = {value.name: given.name for value, given in zip(graph.inputs, model.graph.input, strict=True)}
    taken = {given.name for given in session.get_inputs()}

    def run(feeds: Mapping[str, Array]) -> Sequence[Array]:
        arrays = {names[name]: array for name, array in feeds.items() if names[name] in taken}
        try:
            made: Sequence[Array] = session.run(None, arrays)
        except refusals as error:
            raise InputError(f"ONNX Runtime refuses the examples: {str(error).splitlines()[0]}") from None
        return made

    return run
