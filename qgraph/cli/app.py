"""Commands over files of graphs. Exit status 0; 1 for a "no" (a mismatch, a difference); 2 for an input error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from qgraph.cli.description_command import unknown_verb
from qgraph.cli.diff_command import diff
from qgraph.cli.explain_command import explain
from qgraph.cli.opt_command import opt
from qgraph.cli.quantize_command import quantize
from qgraph.cli.report_command import report
from qgraph.cli.sensitivity_command import search, sensitivity
from qgraph.cli.show_command import show

app = typer.Typer(
    name="qgraph",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A compiler for quantized neural networks: what you train is what ships, bit for bit.",
)

Fallback = Annotated[str | None, typer.Option(help="float: ops without an integer form on the target stay in float.")]
GraphFile = Annotated[Path, typer.Argument(help="A graph: .qg, or a .tflite or .onnx file that qgraph exported.")]
Output = Annotated[Path, typer.Option("-o", "--output", help="The file to write.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Target = Annotated[str, typer.Option("--target", help="A target: see `qgraph targets`.")]


@app.command()
def trace(
    source: Annotated[
        str, typer.Argument(help="FILE.py:NAME or pkg.module:NAME, a torch module class, instance or function.")
    ],
    output: Output,
    input: Annotated[
        str,
        typer.Option("--input", help="Shape of an example input, with its type: 1x3x32x32, 4x7:i64; joined by commas."),
    ],
    dynamic: Annotated[
        list[int] | None, typer.Option("--dynamic", help="A dimension beside the batch to leave open. Repeat it.")
    ] = None,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", help="ARGUMENT=RESULT: the next value of a streaming model's state. Repeat it."),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A state_dict file (torch.save) to load first.")] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Run the graph beside the model.")] = True,
) -> None:
    """Trace a torch model into a float graph, and see that both compute the same."""
    import qgraph
    from qgraph.cli.sources import example_inputs, key_values, load_model

    model = load_model(source, weights)
    states = {name: int(each) if each.isdigit() else each for name, each in key_values(state or []).items()}
    graph = qgraph.trace(model, example_inputs(input), dynamic_dims=dynamic or (), states=states, check=check)
    qgraph.save(graph, output)
    typer.echo(f"{output}: {len(graph)} nodes")


@app.command(name="print")
def print_graph(
    file: GraphFile,
    full: Annotated[bool, typer.Option("--full", help="Every scale: the text that `qgraph.parse` reads.")] = False,
) -> None:
    """Print a graph as text; the scales of many channels are summed up."""
    import qgraph
    from qgraph.ir.printer import print_graph

    typer.echo(print_graph(qgraph.load(file), brief=not full), nl=False)


app.command()(explain)
app.command()(sensitivity)
app.command()(search)
app.command()(opt)
app.command()(report)
app.command()(show)
app.command()(quantize)


@app.command()
def lower(
    file: GraphFile,
    target: Target,
    output: Output,
    io: Annotated[str | None, typer.Option(help="integer or float: what the graph takes and gives.")] = None,
    fallback: Fallback = None,
    check: Annotated[bool, typer.Option("--check", help="Hold each op against what it was made of.")] = False,
) -> None:
    """Lower a calibrated fake-quantized graph to a target's integer ops."""
    import qgraph

    graph = qgraph.lower(qgraph.load(file), target=target, io=io, fallback=fallback, check=check)
    qgraph.save(graph, output)
    typer.echo(f"{output}: {len(graph)} nodes of {target}")


@app.command(name="raise")
def raise_graph(
    file: Annotated[Path, typer.Argument(help="A lowered graph, a quantized .tflite or .onnx file.")], output: Output
) -> None:
    """Raise a quantized model to the fake-quant level, to train it further (then: `qgraph lower`)."""
    import qgraph

    graph = qgraph.PassManager("raise-to-fake-quant").run(qgraph.load(file))
    qgraph.save(graph, output)
    typer.echo(f"{output}: {len(graph)} nodes")


@app.command()
def export(
    file: GraphFile,
    output: Output,
    form: Annotated[str | None, typer.Option(help="For .onnx: qoperator (default) or qdq.")] = None,
    metadata: Annotated[
        list[str] | None,
        typer.Option(help="Words that go along, NAME=VALUE or NAME=@FILE: labels=@labels.txt. Repeat it."),
    ] = None,
) -> None:
    """Export a lowered graph as the target's file (.tflite, .onnx; .cc for TFLite Micro), or as a folder of C99."""
    import qgraph
    from qgraph.cli.sources import key_values
    from qgraph.ir.files import read_bytes

    graph = qgraph.load(file)
    for name, value in key_values(metadata or []).items():
        graph.metadata[name] = read_bytes(value[1:]).decode() if value.startswith("@") else value
    qgraph.export(graph, output, **({"form": form} if form else {}))
    written = sorted(output.iterdir()) if output.is_dir() else [output]
    for path in written:
        typer.echo(f"{path}: {path.stat().st_size:,} bytes")


@app.command()
def run(
    file: GraphFile,
    input: Annotated[Path, typer.Option("--input", help="An .npz file: arrays by input name.")],
    output: Output,
    dequantize: Annotated[bool, typer.Option("--dequantize", help="Give floats instead of integers.")] = False,
    layout: Annotated[str | None, typer.Option(help="NCHW or NHWC: of float inputs, and of the outputs.")] = None,
) -> None:
    """Run a graph in the interpreter; one with states over the examples as the steps of one stream."""
    import qgraph
    from qgraph.cli.arrays import read_npz
    from qgraph.ir import data_inputs, states_of
    from qgraph.ir.files import write_npz

    graph = qgraph.load(file)
    data = read_npz(input, [value.name for value in data_inputs(graph)])
    if states_of(graph):
        result = qgraph.Stream(graph, dequantize=dequantize, layout=layout).steps(data)  # type: ignore[arg-type]  # checked
    else:
        result = qgraph.run(graph, data, dequantize=dequantize, layout=layout)  # type: ignore[arg-type]  # checked by run
    named = result if isinstance(result, dict) else {graph.outputs[0].name or "output": result}
    write_npz(output, named)
    typer.echo(f"{output}: " + ", ".join(f"{name} {array.dtype}{list(array.shape)}" for name, array in named.items()))


app.command()(diff)


@app.command()
def verify(
    file: GraphFile,
    runtime: Annotated[str | None, typer.Option("--runtime", help="A target of the same family.")] = None,
    inputs: Annotated[Path | None, typer.Option("--inputs", help="An .npz file of inputs.")] = None,
    samples: Annotated[int, typer.Option(help="How many random examples, without --inputs.")] = 64,
    on: Annotated[
        str | None, typer.Option("--on", help='A command that starts a Python elsewhere: "ssh pi python3".')
    ] = None,
    layout: Annotated[str | None, typer.Option(help="NCHW or NHWC, where the inputs' shape fits both.")] = None,
    intermediate: Annotated[bool, typer.Option("--intermediate", help="Compare every node's result too.")] = False,
    optimization: Annotated[
        str,
        typer.Option(help="Level at which a quantized .onnx model is read and run: all, extended, basic, disabled."),
    ] = "",
    as_json: Json = False,
) -> None:
    """Compare the interpreter with the real runtime, bit for bit; exit status 1 when they differ."""
    import qgraph
    from qgraph.cli.arrays import read_npz
    from qgraph.ir import data_inputs

    data = None
    if inputs is not None:
        data = read_npz(inputs, [value.name for value in data_inputs(qgraph.load(file, target=runtime))])
    report = qgraph.verify(
        file,
        runtime=runtime,
        inputs=data,
        samples=samples,
        on=on,
        layout=layout,  # type: ignore[arg-type]  # checked
        intermediate=intermediate,
        optimization=optimization or None,
    )
    typer.echo(report.to_json() if as_json else str(report))
    raise typer.Exit(0 if report.bit_exact else 1)


@app.command()
def targets(
    name: Annotated[
        str | None, typer.Argument(help="A target, for its details; or `check` or `new`, of a description.")
    ] = None,
    file: Annotated[Path | None, typer.Argument(help="The description of a chip, .toml.")] = None,
    as_json: Json = False,
) -> None:
    """List the targets, or tell of one: options, ops, files, processors.

    `targets new FILE` writes a template of a description of a chip; `targets check FILE` says what is wrong with one,
    or what the chip runs, and the formula of each op.
    """
    from qgraph.cli.description_command import check, new
    from qgraph.cli.listings import target_details, target_list

    if file is not None:
        words = {"new": new, "check": check}.get(name or "", unknown_verb)(file)
    else:
        words = target_list() if name is None else target_details(name)
    typer.echo(json.dumps(words.data, indent=2) if as_json else words.text)


@app.command()
def ops(
    name: Annotated[str | None, typer.Argument(help="An op of nn; or torch, onnx: what is read.")] = None,
    as_json: Json = False,
) -> None:
    """List the ops of nn and what becomes of them on each target, or tell of one."""
    from qgraph.cli.op_listing import op_details, op_list

    words = op_list() if name is None else op_details(name)
    typer.echo(json.dumps(words.data, indent=2) if as_json else words.text)


@app.command()
def quantizers(as_json: Json = False) -> None:
    """List the quantizers: how scales follow from what is seen, and gradients of rounding."""
    from qgraph.cli.listings import quantizer_list

    words = quantizer_list()
    typer.echo(json.dumps(words.data, indent=2) if as_json else words.text)


@app.command()
def ptq(as_json: Json = False) -> None:
    """List the methods of quantization after training."""
    from qgraph.cli.listings import ptq_list

    words = ptq_list()
    typer.echo(json.dumps(words.data, indent=2) if as_json else words.text)


@app.command()
def passes(
    name: Annotated[str | None, typer.Argument(help="A pass, for its documentation.")] = None,
    load: Annotated[
        list[Path] | None, typer.Option(help="A file of Python with passes of your own. Repeat it.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the passes, or print the documentation and options of one."""
    from qgraph.cli.listings import pass_details, pass_list
    from qgraph.imports import import_file

    for source in load or []:
        import_file(source)
    words = pass_list() if name is None else pass_details(name)
    typer.echo(json.dumps(words.data, indent=2) if as_json else words.text)


@app.command()
def demo(
    target: Annotated[list[str] | None, typer.Option("--target", help="A target; give it again for more.")] = None,
    out: Annotated[Path, typer.Option("--out", help="The folder for graphs and models.")] = Path("qgraph-demo"),
    epochs: Annotated[int, typer.Option(help="Epochs of float training; QAT takes a quarter of them.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights and shuffling.")] = 0,
    data: Annotated[
        Path | None, typer.Option("--data", help="An .npz file with images and labels of your own.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train, quantize, export and verify a small CNN on real images, in minutes."""
    from qgraph.cli.demo import run_demo

    exact = run_demo(targets=target or [], out=out, epochs=epochs, seed=seed, data=data, as_json=as_json)
    raise typer.Exit(0 if exact else 1)
