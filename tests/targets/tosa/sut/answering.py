"""Answers, a line of JSON for each folder that standard input names, what qgraph makes of the test there."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import qgraph
from qgraph.errors import QGraphError


def answer(folder: Path) -> dict[str, str]:
    """Run the test; a file that does not load is an error of the graph, a run that is refused unpredictable."""
    test = json.loads((folder / "desc.json").read_text())
    try:
        graph = qgraph.load(folder / test["tosa_file"])
    except QGraphError as error:
        return {"result": "TOSA_ERROR", "message": str(error)}
    files = dict(zip(test["ifm_name"], test["ifm_file"], strict=True))
    inputs = {value.name: np.load(folder / files[value.name]).reshape(value.type.shape) for value in graph.inputs}
    try:
        made = qgraph.run(graph, inputs)
    except QGraphError as error:
        return {"result": "TOSA_UNPREDICTABLE", "message": str(error)}
    results = made if isinstance(made, dict) else {graph.output_names[0]: made}
    for name, file in zip(test["ofm_name"], test["ofm_file"], strict=True):
        np.save(folder / file, results[name])
    return {"result": "TOSA_VALID", "message": ""}


def main() -> None:
    """Answer until the end of input; what goes wrong otherwise is told as such."""
    for line in sys.stdin:
        try:
            told = answer(Path(json.loads(line)))
        except Exception as error:  # told to the judge, who counts it as a failure
            told = {"result": "OTHER_ERROR", "message": repr(error)}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
