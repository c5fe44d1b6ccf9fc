"""The ops of models that are no plain CNNs, each traced and compared with torch: `run`, text, `to_torch` and gradients.

`qgraph.trace` itself holds the graph against the model on the example; here other inputs and another batch follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qgraph
from qgraph.ir import Array
from tests.frontends import scattered
from tests.frontends.traced import tensors

Case = tuple[Callable[..., object], tuple[Any, ...]]
"""A function or module, and shapes of its inputs: floats, indices ("i", most, *shape), or booleans ("b", *shape)."""


call = (lambda: None).__code__


class Call(nn.Module):
    """A function as a module, with parameters that it may use."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function
        self.table = nn.Embedding(11, 6)
        self.square = nn.Parameter(torch.randn(6, 6))

    def forward(self, *inputs: Tensor) -> object:
        takes_self = getattr(self.function, "__code__", call).co_varnames[:1] == ("m",)
        return self.function(self, *inputs) if takes_self else self.function(*inputs)


def without_autocast(x: Tensor) -> Tensor:
    y = torch.relu(x)
    with torch.autocast("cpu", enabled=False):
        return torch.exp(y.float()) * x


def example(shape: tuple[Any, ...], batch: int, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    if shape[0] == "i":
        return torch.from_numpy(rng.integers(0, shape[1], (batch, *shape[3:])))
    if shape[0] == "b":
        return torch.from_numpy(rng.integers(0, 2, (batch, *shape[2:])) > 0)
    return torch.from_numpy(rng.normal(0, 1, (batch, *shape[1:])).astype(np.float32))


S = (2, 5, 6)
HEADS = (2, 4, 5, 6)
KEYS = (2, 2, 7, 6)

CASES: dict[str, Case] = {
    # products
    "matmul": (lambda x, y: x @ y.transpose(1, 2), (S, (2, 7, 6))),
    "matmul by a parameter": (lambda m, x: x @ m.square, (S,)),
    "a parameter times x": (lambda m, x: m.square @ x.transpose(1, 2), (S,)),
    "matmul broadcasts": (lambda x, y: torch.matmul(x, y), ((2, 3, 4, 5), (2, 1, 5, 3))),
    "matmul with a vector": (lambda x: torch.matmul(x, torch.arange(6.0)), (S,)),
    "bmm": (lambda x, y: torch.bmm(x, y), ((2, 3, 4), (2, 4, 5))),
    "addmm": (lambda m, x: torch.addmm(m.square[0], x, m.square), ((2, 6),)),
    "addmm with alpha": (lambda m, x: torch.addmm(m.square[0], x, m.square, beta=0.5, alpha=2), ((2, 6),)),
    "einsum of attention": (lambda q, k: torch.einsum("bqhd,bkhd->bhqk", q, k), ((2, 5, 3, 4), (2, 7, 3, 4))),
    "einsum with a sum": (lambda x, y: torch.einsum("bij,bkl->bl", x, y), (S, (2, 3, 4))),
    "einsum of one": (lambda x: torch.einsum("bij->bj", x), (S,)),
    "einsum of three": (
        lambda q, k, z: torch.einsum("btd,bde,bt->bte", q, k, z),
        ((2, 3, 4), (2, 4, 5), (2, 3)),
    ),
    "einsum of four": (
        lambda a, b, c, d: torch.einsum("ni,nj,njk,nk->ni", a, b, c, d),
        ((2, 3), (2, 4), (2, 4, 5), (2, 5)),
    ),
    "einsum of dots": (lambda x, y: torch.einsum("...ij,...jk->...ik", x, y), ((2, 3, 4, 5), (2, 3, 5, 6))),
    "einsum without a result": (lambda x, y: torch.einsum("n...i,nij", x, y), ((2, 3, 4), (2, 4, 5))),
    "einsum of an outer product": (lambda x, y: torch.einsum("bi,bj->bij", x, y), ((2, 3), (2, 4))),
    "bilinear": (nn.Bilinear(6, 5, 3), (S, (2, 5, 5))),
    "cdist": (lambda x, y: torch.cdist(x, y), (S, (2, 4, 6))),
    # attention
    "attention": (F.scaled_dot_product_attention, (HEADS, (2, 4, 7, 6), (2, 4, 7, 3))),
    "attention, causal": (lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True), (HEADS,)),
    "attention, scaled": (lambda q: F.scaled_dot_product_attention(q, q, q, scale=0.1), (HEADS,)),
    "attention, booleans": (F.scaled_dot_product_attention, (HEADS, HEADS, HEADS, ("b", 2, 1, 5, 5))),
    "attention, a float mask": (F.scaled_dot_product_attention, (HEADS, HEADS, HEADS, (2, 1, 5, 5))),
    "attention in groups": (
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True),
        (HEADS, KEYS, KEYS),
    ),
    "attention of one head": (F.scaled_dot_product_attention, (S, (2, 7, 6), (2, 7, 3))),
    "multi-head attention": (nn.MultiheadAttention(6, 2, batch_first=True), (S, S, S)),
    "an encoder layer": (nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), (S,)),
    "an encoder layer, norm first": (nn.TransformerEncoderLayer(6, 2, 8, activation="gelu", norm_first=True), (S,)),
    # normalizations
    "layer_norm": (nn.LayerNorm(6), (S,)),
    "layer_norm over two": (nn.LayerNorm((5, 6), elementwise_affine=False), (S,)),
    "layer_norm without bias": (nn.LayerNorm(6, bias=False), (S,)),
    "rms_norm": (nn.RMSNorm(6), (S,)),
    "rms_norm plain": (lambda x: F.rms_norm(x, (5, 6), eps=0.1), (S,)),
    "group_norm": (nn.GroupNorm(2, 4), ((2, 4, 5, 3),)),
    "group_norm plain": (nn.GroupNorm(4, 4, affine=False), ((2, 4, 7),)),
    "instance_norm": (nn.InstanceNorm2d(4, affine=True), ((2, 4, 5, 3),)),
    "instance_norm with statistics": (nn.InstanceNorm1d(4, track_running_stats=True), ((2, 4, 5),)),
    # functions
    **{name: (getattr(torch, name), (S,)) for name in ("exp", "abs", "sign", "sin", "cos", "atan", "erf", "floor")},
    **{name: (getattr(torch, name), (S,)) for name in ("ceil", "round", "square", "expm1", "trunc")},
    "trigonometry": (lambda x: x.tan() + x.sinh() - x.cosh() + (x / 9).asin() + (x / 9).acos() + x.fmod(0.7), (S,)),
    "by decompositions": (lambda x, y: torch.logaddexp(x, y).nan_to_num() + x.rot90(2, (1, 2)).frac(), (S, S)),
    "log": (lambda x: (x.abs() + 0.1).log(), (S,)),
    "log1p": (lambda x: x.abs().log1p() + (x.abs() + 1).log2() + (x.abs() + 1).log10(), (S,)),
    "exp2, erfc": (lambda x: x.exp2() + x.erfc(), (S,)),
    "sqrt": (lambda x: (x.abs() + 0.1).sqrt() * (x.abs() + 0.1).rsqrt() * (x * x + 1).reciprocal(), (S,)),
    "pow": (lambda x: x**2 + x**3 + (x.abs() + 1) ** 0.5 + (x.abs() + 1) ** -0.5 + (x.abs() + 1) ** 1.7, (S,)),
    "pow of two": (lambda x, y: (x.abs() + 0.1) ** y + 2**x, (S, S)),
    "gelu": (nn.GELU(), (S,)),
    "gelu by tanh": (nn.GELU("tanh"), (S,)),
    "elu": (nn.ELU(0.7), (S,)),
    "selu": (nn.SELU(), (S,)),
    "celu": (nn.CELU(1.5), (S,)),
    "softplus": (nn.Softplus(2.0, 3.0), (S,)),
    "mish": (nn.Mish(), (S,)),
    "softsign": (nn.Softsign(), (S,)),
    "hardshrink": (nn.Hardshrink(0.3), (S,)),
    "softshrink": (nn.Softshrink(0.3), (S,)),
    "tanhshrink": (nn.Tanhshrink(), (S,)),
    "logsigmoid": (nn.LogSigmoid(), (S,)),
    "threshold": (nn.Threshold(0.1, 20.0), (S,)),
    "rrelu": (nn.RReLU(), (S,)),
    "prelu": (nn.PReLU(5), (S,)),
    "prelu of one slope": (nn.PReLU(), (S,)),
    "glu": (nn.GLU(), (S,)),
    "log_softmax": (nn.LogSoftmax(1), (S,)),
    # arithmetic
    "div": (lambda x, y: x / (y.abs() + 0.5), (S, S)),
    "div by a mode": (lambda x, y: torch.div(x, y, rounding_mode="floor") + (x / y).trunc(), (S, S)),
    "div of a number": (lambda x: 2.0 / (x.abs() + 1), (S,)),
    "addcmul": (lambda x, y: torch.addcmul(x, y, y, value=2) + x.lerp(y, 0.3) + torch.addcdiv(x, y, y * y + 1), (S, S)),
    "remainder": (lambda x: torch.remainder(x, 0.7), (S,)),
    "add with alpha": (lambda x, y: torch.add(x, y, alpha=3) - torch.sub(x, y, alpha=0.5), (S, S)),
    "maximum": (lambda x, y: torch.maximum(x, y) - torch.minimum(x, y * 2), (S, S)),
    "clamp by tensors": (lambda x, y: torch.clamp(x, min=-y.abs(), max=y.abs()), (S, S)),
    "integers": (lambda i, x: (i * 2 + 1 - i // 2).clamp(0, 9) * x + i % 3, (("i", 9, 2, 5, 6), S)),
    # comparisons
    "where": (lambda x, y: torch.where(x > y, x, y * 2), (S, S)),
    "where with numbers": (lambda x: torch.where(x <= 0, 1.0, x) + torch.where(x == x, x, 0.0), (S,)),
    "masked_fill": (lambda x, b: x.masked_fill(b, -1e9).softmax(-1), (S, ("b", 2, 5, 6))),
    "logic": (lambda x, b: ((x > 0) & b | ~b ^ (x < -1)).float() * x + (x >= 1) + (x != x), (S, ("b", 2, 5, 6))),
    "any and all": (lambda b: b.any(1).float() + b.all(-1).float() + b.long().sum(1) * b.any(), (("b", 2, 6, 6),)),
    "isnan": (lambda x: torch.where(torch.isnan(x) | torch.isinf(x), torch.zeros_like(x), x), (S,)),
    "triangles": (lambda x: torch.tril(x) + torch.triu(x, 1) * 2 + x.tril(-1), (S,)),
    "a causal mask": (lambda x: (x @ x.mT).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(-1), (S,)),
    "casts": (lambda i, x: i.float() * x + (x > 0).to(x.dtype) + x.long().float(), (("i", 5, 2, 5, 6), S)),
    # reductions
    "sum": (lambda x: x.sum(1) + x.sum((1, 2), keepdim=True).squeeze(1), (S,)),
    "sum of integers": (lambda i: i.sum(1), (("i", 9, 2, 5),)),
    "prod": (lambda x: x.prod(-1), (S,)),
    "amax": (lambda x: x.amax((1, 2)) - x.amin(1).amin(1) + x.max(2)[0].max(1).values, (S,)),
    "max and place": (lambda x: (x.max(1), x.argmin(-1), x.min(2, keepdim=True), x.argmax(1, keepdim=True)), (S,)),
    "var": (lambda x: x.var(1) + x.var((1,), correction=0) + x.std(1, unbiased=True), (S,)),
    "var_mean": (lambda x: sum(torch.var_mean(x, (1, 2), keepdim=True)), (S,)),
    "norm": (lambda x: F.normalize(x, dim=-1) + x.norm(1, dim=1, keepdim=True), (S,)),
    "norm over two": (lambda x: x.norm(dim=(1, 2)), (S,)),
    "norm of the largest": (lambda x: torch.linalg.vector_norm(x, torch.inf, dim=1), (S,)),
    "cosine similarity": (lambda x, y: F.cosine_similarity(x, y, dim=1), (S, S)),
    "logsumexp": (lambda x: x.logsumexp(1) + x.logsumexp((1, 2), keepdim=True)[:, 0], (S,)),
    "logsumexp of -inf": (lambda x: (x.detach() - torch.inf).logsumexp(1), (S,)),
    "logsumexp of inf": (lambda x: (x.detach() + torch.inf).logsumexp(1), (S,)),
    "cumsum": (lambda x: x.cumsum(1) + x.cumsum(-1), (S,)),
    "topk": (lambda x: (x.topk(3, 1), x.topk(2, largest=False)), (S,)),
    "sort": (lambda x: x.sort(1, descending=True), (S,)),
    # indices
    "embedding": (lambda m, i: m.table(i), (("i", 11, 2, 7),)),
    "an embedding's sum": (lambda m, i, j: m.table(i) * m.table.weight[j % 3], (("i", 11, 2, 7), ("i", 9, 2, 7))),
    **{
        f"embedding_bag, {mode}": (nn.EmbeddingBag(11, 4, mode=mode, padding_idx=pad), (("i", 11, 2, 5),))
        for mode, pad in (("sum", None), ("mean", 3), ("max", None))
    },
    "embedding_bag, weighted": (
        lambda m, i, w: F.embedding_bag(i, m.square, mode="sum", per_sample_weights=w),
        (("i", 6, 2, 5), (2, 5)),
    ),
    "index by a tensor": (lambda x: x[:, torch.tensor([0, -1, 2])] + x[:, [1, 1, 0]], (S,)),
    "index by two": (lambda x: x[:, torch.tensor([[0], [1]]), torch.tensor([0, 3, -1])], (S,)),
    "index apart": (lambda x: x[:, torch.tensor([0, 1]), :, torch.tensor([1, 2])], ((2, 3, 4, 5),)),
    "index_select": (lambda x: x.index_select(2, torch.tensor([3, 0])), (S,)),
    "gather": (lambda x, i: x.gather(1, i), (S, ("i", 5, 2, 3, 6))),
    "one_hot": (lambda i: F.one_hot(i, 5).float() @ torch.arange(5.0), (("i", 5, 2, 3),)),
    "positions": (lambda m, i: m.table(i) + m.table.weight[torch.arange(i.shape[1])], (("i", 11, 2, 7),)),
    "relative positions": (lambda m, x: x + m.square[(torch.arange(5)[:, None] - torch.arange(6)) % 6][..., 0], (S,)),
    "diagonal": (lambda x: torch.diagonal(x, 1, 1, 2) + torch.diagonal(x, dim1=2, dim2=1)[:, :5], (S,)),
    "scatter": (lambda x, i: torch.zeros_like(x).scatter(1, i, 1.0) * x, (S, ("i", 5, 2, 2, 6))),
    "bucketize": (lambda x: (torch.bucketize(x, torch.tensor([-0.5, 0.0, 1.0]), right=True), (x > 0).sum()), (S,)),
    "median": (lambda x: (x.median(1).values, x.kthvalue(2, -1, keepdim=True)), (S,)),
    # what moves elements
    "stack": (lambda x, y: torch.stack([x, y, x + y], 1), (S, S)),
    "unbind": (lambda x: sum(x.unbind(1)), (S,)),
    "chunk": (lambda x: torch.cat(x.chunk(2, 1)[::-1], 1), ((2, 4, 6),)),
    "expand": (lambda x: x[:, :1].expand(-1, 5, -1) + x.mean(1, True).expand_as(x), (S,)),
    "a class token": (lambda m, x: torch.cat([m.square[None, :1].expand(x.shape[0], -1, -1), x], 1), (S,)),
    "repeat": (lambda x: x.repeat(1, 2, 3) + x.repeat_interleave(2, 1).tile(3), (S,)),
    "repeat to a batch": (lambda m, x: m.square[:5].repeat(x.shape[0], 1, 1) * x, (S,)),
    "repeat of several to a batch": (lambda m, x: x.flatten(0, 1) * m.square[:5].repeat(x.shape[0], 1), (S,)),
    "parts of no elements": (lambda x: torch.cat([x[..., 6:], x * 2, x[:, :, :0]], -1), (S,)),
    "other names": (lambda x, y: torch.multiply(x, y) - torch.subtract(x, y).absolute() + x.arctan().clip(0), (S, S)),
    "roll": (lambda x: x.roll(2, 1) + torch.roll(x, (1, -2), (1, 2)), (S,)),
    "flip": (lambda x: x.flip(1) + x.flip((1, 2)), (S,)),
    "pixel_shuffle": (nn.PixelShuffle(2), ((2, 8, 3, 4),)),
    "pixel_unshuffle": (nn.PixelUnshuffle(2), ((2, 2, 6, 4),)),
    "channel_shuffle": (nn.ChannelShuffle(2), ((2, 6, 3, 4),)),
    "tensor_split": (lambda x: torch.cat(torch.tensor_split(x, [1, 4], 1)[::-1], 1), (S,)),
    "unfold": (lambda x: x.unfold(1, 3, 1) * 2, (S,)),
    "im2col": (nn.Unfold((3, 2), padding=1, stride=(2, 1)), ((2, 3, 6, 5),)),
    "fold": (nn.Fold((6, 5), (3, 2), padding=1, stride=(2, 1)), ((2, 12, 18),)),
    "fold of unfold": (lambda x: F.fold(F.unfold(x, 3, dilation=2, padding=2), (5, 4), 3, 2, 2), ((2, 2, 5, 4),)),
    "meshgrid": (lambda x: x + sum(torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")), (S,)),
    # images of other sizes
    **{
        f"upsampling, {mode} {aligned} {size}": (nn.Upsample(mode=mode, align_corners=aligned, **size), shape)
        for mode, aligned, shape in (
            *[("nearest", None, ((2, 3, 5, 4),)), ("bilinear", False, ((2, 3, 5, 4),))],
            *[("bilinear", True, ((2, 3, 5, 4),)), ("bicubic", False, ((2, 3, 5, 4),))],
            *[("linear", False, ((2, 3, 5),)), ("nearest", None, ((2, 3, 5),))],
            ("trilinear", True, ((2, 2, 3, 4, 2),)),
        )
        for size in ({"scale_factor": 2}, {"scale_factor": 1.7}, {"size": (3, 7, 2)[: len(shape[0]) - 2]})
    },
    **{
        f"antialiased, {mode} {aligned} {size}": (
            lambda x, words=words: F.interpolate(x, **words, antialias=True),
            ((2, 3, 7, 5),),
        )
        for mode in ("bilinear", "bicubic")
        for aligned in (True, False)
        for size in ({"size": (3, 9)}, {"size": (1, 1)}, {"size": (12, 2)}, {"scale_factor": 0.7})
        for words in [{"mode": mode, "align_corners": aligned, **size}]
    },
    **{
        f"{name}, axis {dim}": (lambda x, call=call, dim=dim: call(x, dim), (S,))
        for name, call in {
            "cumprod": lambda x, dim: x.cumprod(dim),
            "cummax": lambda x, dim: x.cummax(dim)[0],
            "cummin": lambda x, dim: x.cummin(dim).values,
            "logcumsumexp": lambda x, dim: x.logcumsumexp(dim),
        }.items()
        for dim in (1, -1)
    },
    **scattered.CASES,
    **{
        f"grid_sample, {mode} {padding} {aligned}": (
            lambda x, g, mode=mode, padding=padding, aligned=aligned: F.grid_sample(x, g, mode, padding, aligned),
            ((2, 3, 5, 4), (2, 6, 7, 2)),
        )
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border", "reflection")
        for aligned in (True, False)
    },
    **{
        f"padding, {mode}": (lambda x, mode=mode: F.pad(x, (1, 2, 3, 0), mode), ((2, 3, 5, 4),))
        for mode in ("reflect", "replicate", "circular")
    },
    "affine_grid": (lambda t: F.affine_grid(t, [t.shape[0], 1, 3, 4], align_corners=False), ((2, 2, 3),)),
    "affine_grid, aligned": (lambda t: F.affine_grid(t, [t.shape[0], 1, 3, 4], align_corners=True), ((2, 2, 3),)),
    "ReflectionPad1d": (nn.ReflectionPad1d((2, 1)), (S,)),
    "padding, negative": (lambda x: F.pad(x, (-1, 2, 1, -2), value=0.5), (S,)),
    "adaptive_avg_pool, uneven": (nn.AdaptiveAvgPool2d((3, 2)), ((2, 3, 7, 5),)),
    "adaptive_max_pool, uneven": (nn.AdaptiveMaxPool2d((3, 6)), ((2, 3, 7, 5),)),
    "adaptive pools, even": (lambda x: F.adaptive_max_pool1d(x, 3) + F.adaptive_avg_pool1d(x, 3), (S,)),
    "adaptive pool of one dimension": (nn.AdaptiveAvgPool2d((None, 3)), ((2, 3, 4, 5),)),
    "avg_pool with a divisor": (nn.AvgPool2d(2, 2, 1, False, False, divisor_override=3), ((2, 3, 6, 4),)),
    "alpha dropout": (nn.Sequential(nn.AlphaDropout(), nn.FeatureAlphaDropout(), nn.ReLU()), ((2, 3, 6, 4),)),
    "max_pool with indices": (lambda x: F.max_pool2d(x, 2, return_indices=True)[0], ((2, 3, 6, 4),)),
    "autocast switched off": (lambda x: without_autocast(x) + 1, (S,)),
    "weight_norm": (torch.nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), (S,)),
    "spectral_norm": (torch.nn.utils.parametrizations.spectral_norm(nn.Conv1d(5, 3, 2)), (S,)),
    "a sum of booleans": (lambda b: b.sum(1) / b.sum(-1).clamp(min=1), (("b", 2, 5, 5),)),
}  # fmt: skip


def made_from(name: str) -> tuple[nn.Module, tuple[Any, ...]]:
    function, shapes = CASES[name]
    torch.manual_seed(0)
    return (function if isinstance(function, nn.Module) else Call(function)).eval(), shapes


def close(got: Array, expected: Array) -> None:
    """Equal up to float32 sums of at most 100 terms in another order."""
    assert got.shape == expected.shape
    if expected.dtype.kind == "f":
        bound = 2e-5 * max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
        np.testing.assert_allclose(got, expected, rtol=0, atol=bound)
    else:
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", CASES)
def test_an_op_computes_what_torch_does(name: str) -> None:
    model, shapes = made_from(name)
    batch = shapes[0][0] if isinstance(shapes[0][0], int) else 2
    graph = qgraph.trace(model, tuple(example(shape, batch, 7) for shape in shapes))
    assert all(value.type.shape[0] == "N" for value in graph.inputs)
    assert qgraph.parse(str(graph), constants=graph) == graph
    module = qgraph.to_torch(graph).eval()
    for size in (2, 3):
        inputs = [example(shape, size, 10 * size + i) for i, shape in enumerate(shapes)]
        expected = tensors(model(*inputs))
        result = qgraph.run(graph, tuple(x.numpy() for x in inputs) if len(inputs) > 1 else inputs[0].numpy())
        for got in (list(result.values()) if isinstance(result, dict) else [result], tensors(module(*inputs))):
            for a, b in zip(got, expected, strict=True):
                close(a, b)
    check_gradients(model, module, inputs)


def check_gradients(model: nn.Module, module: nn.Module, inputs: list[Tensor]) -> None:
    """The gradients of the inputs, where floats are results and a function of them."""
    wanted = []
    for each in (model, module):
        given = [x.clone().requires_grad_() if x.is_floating_point() else x for x in inputs]
        with torch.enable_grad():
            floats = [y for y in torch.utils._pytree.tree_leaves(each(*given)) if y.is_floating_point()]
            if not floats or not any(y.requires_grad for y in floats):
                return
            total = sum((y * torch.linspace(-1, 1, y.numel()).reshape(y.shape)).sum() for y in floats)
            total.backward()  # type: ignore[union-attr]  # a tensor
        wanted.append([x.grad for x in given if x.is_floating_point()])
    for a, b in zip(*wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4)
