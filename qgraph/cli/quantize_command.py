"""`qgraph quantize`: quantization after training, to a fake-quantized graph or at once to the target's own file."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from qgraph.ir import Graph
    from qgraph.passes.insert_fake_quant import Overrides


FILE_OBSERVERS = {"activation": "mse"}
FILE_METHODS = ("mean-correction",)
"""What a file is made by, unless the user says something else, where floats run in the target's runtime: both together
cost a few percent of the time, and give up to 9 dB more than ranges of everything (`tests/benchmarks`)."""


def quantize(
    file: Annotated[Path, typer.Argument(help="A float graph: .qg, or .onnx of any tool.")],
    target: Annotated[str, typer.Option("--target", help="A target: see `qgraph targets`.")],
    calibration: Annotated[Path, typer.Option("--calibration", help="An .npz file of inputs.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="A .qg of fake-quant, or a file of the target: .onnx, .tflite, .cc.")
    ],
    batch: Annotated[int, typer.Option(help="Examples in a batch, where the file leaves it open.")] = 64,
    option: Annotated[list[str] | None, typer.Option(help="An option of the target: weights=u8. Repeat it.")] = None,
    observer: Annotated[
        list[str] | None, typer.Option(help="A quantizer: activation=percentile:99.9, weight=mse. Repeat it.")
    ] = None,
    fallback: Annotated[
        str | None,
        typer.Option(help="float: ops without an integer form stay in float. So it is for a file of the target."),
    ] = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="A node, or a pattern of nodes, to stay in float. Repeat it.")
    ] = None,
    overrides: Annotated[
        Path | None,
        typer.Option("--overrides", help="A .json file of bits by origin, as `qgraph search -o` writes it."),
    ] = None,
    ptq: Annotated[
        list[str] | None,
        typer.Option(
            help="Methods, in that order: equalize,gptq,bias-correction; see `qgraph ptq`. Or auto: see --goal; none. "
            "By default mean-correction, under activation=mse, for a file of a target whose runtime runs floats."
        ),
    ] = None,
    goal: Annotated[
        float, typer.Option(help="For auto: dB by which results are larger than their errors, on the examples.")
    ] = 30.0,
) -> None:
    """Insert fake-quant as the target's rules say and calibrate it (then: `qgraph lower`); with -o of the target's
    kind, such as .onnx, lower and export it too, and say what stays in float and why."""
    import qgraph
    from qgraph import targets
    from qgraph.cli.arrays import batches, read_npz
    from qgraph.cli.sources import key_values, read_overrides
    from qgraph.ir import data_inputs, states_of
    from qgraph.passes.rules.overrides import FLOAT
    from qgraph.ptq import auto, before_preparing, check_methods, improved, on_examples, with_ranges

    finished = _is_finished(output, target)
    fallback = fallback or ("float" if exclude or (finished and targets.get(target).floats) else None)
    graph = qgraph.load(file)
    data = read_npz(calibration, [value.name for value in data_inputs(graph)])
    fixed = {value.type.shape[0] for value in data_inputs(graph) if value.type.rank}  # where the file says a batch
    size = next((each for each in fixed if isinstance(each, int) and len(fixed) == 1), batch)
    examples = [data] if states_of(graph) else list(batches(data, size))  # steps stay one stream
    observers, options = key_values(observer or []), key_values(option or [])
    bits = {name: {"bits": FLOAT} for name in exclude or []} | ({} if overrides is None else read_overrides(overrides))
    if ptq == ["auto"]:
        score = on_examples(graph, examples)
        tried = auto(graph, target, calibration=examples, evaluate=score, goal=goal, overrides=bits or None, **options)
        _write(tried.graph, output, finished, graph, bits)
        typer.echo(tried)
        raise typer.Exit(0 if tried.reached else 1)
    if finished and targets.get(target).float_program is not None and not states_of(graph):
        observers, ptq = FILE_OBSERVERS | observers, ptq or list(FILE_METHODS)
    methods = check_methods([] if ptq == ["none"] else ptq or [])
    source = before_preparing(graph, examples, methods, check=False)
    prepared = qgraph.prepare(source, target, overrides=bits, observers=observers, fallback=fallback, **options)
    _write(improved(with_ranges(prepared, examples), examples, methods), output, finished, graph, bits)


def _is_finished(output: Path, target: str) -> bool:
    """Whether a file of the target is asked for; raises before anything is computed where it writes none such."""
    from qgraph import targets
    from qgraph.errors import ExportError

    exported = targets.get(target).exporters
    if output.suffix != ".qg" and output.suffix not in exported:
        raise ExportError(f"{output}: target {target} writes no such file", help=f"choose .qg, {', '.join(exported)}")
    return output.suffix != ".qg"


def _write(graph: Graph, output: Path, finished: bool, source: Graph, bits: Overrides) -> None:
    """Save a calibrated graph, or export what becomes of it and report."""
    import qgraph
    import qgraph.targets

    if not finished:
        qgraph.save(graph, output)
        typer.echo(f"{output}: fake-quantized for {graph.target}")
        return
    target = qgraph.targets.of(graph)
    lowered = qgraph.lower(graph, graph.target, io="float" if target.floats else None)
    qgraph.export(lowered, output)
    typer.echo("\n".join([f"{output}: {output.stat().st_size:,} bytes", *_report(lowered, source, bits)]))


def _report(lowered: Graph, source: Graph, bits: Overrides) -> Iterator[str]:
    """What became integers by the number of ops, and each op that stays in float, with the reason."""
    from qgraph import targets
    from qgraph.passes.lower import float_nodes

    target = targets.of(lowered)
    nodes = [node for node in lowered.nodes if node.op not in (target.quantize_op, target.dequantize_op)]
    kept = [node for node in nodes if any(value.type.is_float for value in node.results)]
    counts = Counter(node.op for node in nodes if node not in kept)
    yield f"quantized: {sum(counts.values())} ops: " + ", ".join(f"{op} {n}" for op, n in counts.most_common())
    illegal = float_nodes(source, target)
    refused = {origin.path: why.reason for node, why in illegal.items() for origin in node.origins}
    floats: dict[tuple[str, str], Counter[str]] = {}
    for node in kept:
        paths = [origin.path for origin in node.origins]
        floats.setdefault((", ".join(paths), _reason(paths, refused, bits)), Counter())[node.op] += 1
    for (paths_in_words, reason), ops in floats.items():
        counted = ", ".join(f"{op} {n}" if n > 1 else op for op, n in ops.most_common())
        yield f"in float: {counted} {paths_in_words}: {reason}"


def _reason(paths: list[str], refused: Mapping[str, str], bits: Overrides) -> str:
    """Why a node of these origins is in float."""
    from qgraph.passes.rules.overrides import FLOAT

    asked = [pattern for pattern in bits if bits[pattern].get("bits") == FLOAT and fnmatch.filter(paths, pattern)]
    if asked:
        return f"excluded by {asked[0]}"
    return next((refused[path] for path in paths if path in refused), "beside what is in float, or no gain in integers")
