"""The figures that README promises, measured against their rivals: `python -m tests.benchmarks` at the root.

Each figure is a ratio of two medians, taken in turns in one run on one thread (or seconds, where the promise is in
seconds), so that a busy or slow machine touches both sides alike. No test reads these clocks.

    onnx        integer interpreter against ONNX's ReferenceEvaluator, and how exact each of them is
    litert      integer interpreter against LiteRT's reference kernels
    import      reading a .tflite file of 20 MB
    training    a quantization-aware training step against the float step
    peer-steps  the same on ResNet-18, MobileNetV2 and an encoder, beside torch.ao and torchao; on a GPU where one is
    compiling   from a traced demo model to its lowered graph
    help        `qgraph --help`, process start included
    graphs      reading, writing, checking and changing graphs of up to 100,000 nodes, beside torch.fx and onnx-ir

`--only NAME` picks one (again for more), `--json` prints numbers for programs, `--repeats N` measures N turns.
"""
