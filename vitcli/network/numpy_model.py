"""`NumpyViT`: the network of `model.py` in numpy and einops, for a few pictures on a CPU.

    pixels -> patch embedding -> class token and positions -> encoder -> pooling -> head -> logits

It answers before `import torch` would be done, and it is a second opinion on the torch model in the tests. Weights are
`Config.tensors()` by name. Of the matrix of a linear layer each thread asks for the rows that it multiplies by, and is
done with them before it asks for others, so the matrix may still be in its file.
Axis letters as in `model.py`: b batch, n tokens, d width, h heads, c channels, p q rows and columns of a patch.

Threads are its own: OpenBLAS's wait for each other by spinning, which wastes the processor while numpy does the rest,
and makes one picture several times slower on a busy machine. So BLAS keeps to one thread, and `shared` cuts linear
layers by columns and attention by rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import cached_property, partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from einops import rearrange, reduce, repeat

from vitcli.config import Config
from vitcli.network.blas import one_blas_thread, openblas
from vitcli.network.places import frequencies, places, relative_index

Array: TypeAlias = npt.NDArray[np.float32]

# Elements that stay in a core's second-level cache while a chain of in-place operations goes over them.
BLOCK = 2**15
MOST_THREADS = 8  # more would get slices too thin to be worth waking up for


class NumpyViT:
    """A whole Vision Transformer: normalised pixels [b c H W] -> logits [b k] or, without a head, features [b d]."""

    def __init__(self, config: Config, tensors: Mapping[str, Array], threads: int = 1) -> None:
        self.config = config
        self.tensors = tensors
        # where numpy stands on another BLAS (Accelerate, MKL), that one's threads do the work
        self.threads = min(threads, MOST_THREADS) if openblas() else 1
        self.pool = ThreadPoolExecutor(max(1, self.threads - 1), thread_name_prefix="numpy_model")
        # glibc hands large freed arrays back to the system, and every new one then costs its page faults again: 5 % of
        # ViT-B's time, 15 % of ViT-Ti's. Freeing one block just under 32 MiB makes it keep them: mallopt(3), "dynamic
        # mmap threshold". Nothing is touched, and other allocators do not mind.
        np.empty(31 * 2**20, np.uint8)

    def __call__(self, pixels: Array) -> Array:
        # whoever reads the logits refuses those that are not finite: numpy's warnings would only say it twice
        with one_blas_thread(), np.errstate(over="ignore", invalid="ignore"):
            x = self.patch_embedding(pixels)  # b n d
            x = self.add_positions(x)
            x = self.encode(x)
            x = self.pooled(x)  # b d, or b 2 d with a distillation token
            return self.classify(x)

    def patch_embedding(self, pixels: Array) -> Array:
        """Patchify and embed: [b c H W] -> [b n d]."""
        p = self.config.patch_size
        x = rearrange(pixels, "b c (h p) (w q) -> b (h w) (c p q)", p=p, q=p)
        if self.config.patch_norms:
            x = self.layer_norm(x, "patch_embedding.norm_in")
        x = self.linear(x, "patch_embedding.projection")
        if self.config.patch_norms:
            x = self.layer_norm(x, "patch_embedding.norm_out")
        return x

    def add_positions(self, x: Array) -> Array:
        """Put the learned tokens in front, add the learned positions, and CLIP's norm: [b patches d] -> [b n d]."""
        positions = self.tensors.get("positions")
        if positions is not None and not self.config.prefix_positions:
            x += positions
        names = ("class_token", "distillation_token", "register_tokens")
        prefix = [np.atleast_2d(self.tensors[name]) for name in names if name in self.tensors]
        if prefix:
            x = np.concatenate([repeat(np.concatenate(prefix), "n d -> b n d", b=len(x)), x], axis=1)
        if positions is not None and self.config.prefix_positions:
            x += positions
        return self.layer_norm(x, "norm_pre") if self.config.norm_pre else x

    def encode(self, x: Array) -> Array:
        """The transformer: [b n d] -> [b r d], of which the last block computes only the r tokens that are pooled."""
        last = self.config.depth - 1
        for i in range(last):
            x = self.block(x, f"blocks.{i}", rotation=self.rotation(i))
        x = self.block(x, f"blocks.{last}", self.config.pooled_tokens, self.rotation(last))
        return x if self.config.pooled_norm or not self.config.final_norm else self.layer_norm(x, "norm")

    def block(self, x: Array, name: str, queries: int | None = None, rotation: Array | None = None) -> Array:
        """One encoder layer: [b n d] -> [b r d], only the first `queries` tokens if given."""
        norm1, norm2 = (partial(self.layer_norm, name=f"{name}.norm{i}") for i in (1, 2))
        if self.config.post_norm:
            y = norm1(self.attention(x, f"{name}.attention", queries, rotation))
        else:
            y = self.attention(norm1(x), f"{name}.attention", queries, rotation)
        x = self.add(x[:, :queries], y, f"{name}.scale1")
        y = norm2(self.mlp(x, f"{name}.mlp")) if self.config.post_norm else self.mlp(norm2(x), f"{name}.mlp")
        return self.add(x, y, f"{name}.scale2")

    def add(self, x: Array, branch: Array, scale: str) -> Array:
        """A residual branch times its LayerScale, where there is one, added to x; `branch` is overwritten."""
        if scale in self.tensors:
            branch *= self.tensors[scale]
        branch += x
        return branch

    def attention(self, x: Array, name: str, queries: int | None = None, rotation: Array | None = None) -> Array:
        """Multi-head self-attention: [b n d] -> [b r d], the first `queries` tokens (all by default) asking all n."""
        heads = self.config.heads
        asked = self.linear(x[:, :queries], f"{name}.query")  # b r (h d)
        keys, values = self.linear(x, f"{name}.key"), self.linear(x, f"{name}.value")
        asked *= np.float32(self.config.head_width**-0.5)
        q, k, v = (rearrange(t, "b n (h d) -> b h n d", h=heads) for t in (asked, keys, values))
        if rotation is not None:
            rotate(q, rotation)
            rotate(k, rotation)
        bias = None
        if self.config.relative_positions:
            bias = self.tensors[f"{name}.relative_positions"][self.index[:queries]]  # r n h
            bias = rearrange(bias, "r n h -> h r n")

        def answer(rows: slice) -> None:
            for i in range(len(x)):  # one picture at a time: the scores of many would leave the cache
                scores = q[i, :, rows] @ rearrange(k[i], "h n d -> h d n")  # h r n
                if bias is not None:
                    scores += bias[:, rows]
                softmax(scores)
                np.matmul(scores, v[i], out=q[i, :, rows])  # the queries have been asked: their place is free

        self.shared(q.shape[2], answer)
        if self.config.attention_norm:
            asked = self.layer_norm(asked, f"{name}.norm")
        return self.linear(asked, f"{name}.out") if self.config.attention_out else asked

    @cached_property
    def index(self) -> npt.NDArray[np.int64]:
        """Rows of a table of relative positions: [n n]."""
        return relative_index(self.config)

    def rotation(self, block: int) -> Array | None:
        """The cosines and sines [2 h n f] by which a block turns queries and keys, where positions are rotary."""
        return None if self.config.rotary is None else self.rotations[block % len(self.rotations)]

    @cached_property
    def rotations(self) -> Array:
        """Those of each block, or one for all: [l 2 h n f]."""
        turning = self.tensors.get("rotary.frequencies", frequencies(self.config))
        turning = rearrange(turning, "l xy h f -> xy l h 1 f")
        angles = reduce(turning * rearrange(places(self.config), "xy n -> xy 1 1 n 1"), "xy ... -> ...", "sum")
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def mlp(self, x: Array, name: str) -> Array:
        """Two linear layers around a GELU or with a gate, on each token alone: [b n d] -> [b n d]."""
        if self.config.gated_mlp:
            gate = self.linear(x, f"{name}.gate", silu)
            x = self.linear(x, f"{name}.fc1")
            x *= gate
        else:
            x = self.linear(x, f"{name}.fc1", GELUS[self.config.gelu])
        if self.config.mlp_norm:
            x = self.layer_norm(x, f"{name}.norm")
        return self.linear(x, f"{name}.fc2")

    def pooled(self, x: Array) -> Array:
        """One vector a picture: the class token, a mean, or both."""
        match self.config.pooling:
            case "cls":
                x = x[:, 0] if not self.config.distillation_token else x[:, :2]
            case "mean":
                x = reduce(x[:, self.config.prefix :], "b n d -> b d", "mean")
            case "mean_all":
                x = reduce(x, "b n d -> b d", "mean")
            case "cls_mean":
                mean = reduce(x[:, self.config.prefix :], "b n d -> b d", "mean")
                x = np.concatenate([x[:, 0], mean], axis=1)
        return self.layer_norm(x, "norm") if self.config.pooled_norm else x

    def classify(self, x: Array) -> Array:
        """The head; DeiT's two heads are averaged, as its authors do at inference. Without a head, as in `model.py`."""
        if not self.config.classes:
            return reduce(x, "b t d -> b d", "mean") if self.config.distillation_token else x
        if self.config.distillation_token:
            return (self.linear(x[:, 0], "head") + self.linear(x[:, 1], "distillation_head")) * np.float32(0.5)
        return self.linear(x, "head")

    def linear(self, x: Array, name: str, activation: Callable[[Array], None] | None = None) -> Array:
        """[... i] -> [... o]. The weight [o i] is read as it lies in the file: its transpose is a flag to BLAS."""
        weight, bias = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")
        rows = x.reshape(-1, x.shape[-1])  # of all pictures: one large product is faster than b small ones
        y = np.empty((len(rows), len(weight)), np.float32)

        def compute(columns: slice) -> None:
            part = y[:, columns]
            np.matmul(rows, weight[columns].T, out=part)
            if bias is not None:
                part += bias[columns]
            if activation is not None:
                activation(part)

        self.shared(len(weight), compute, unit=16)
        return y.reshape(*x.shape[:-1], len(weight))

    def layer_norm(self, x: Array, name: str) -> Array:
        """Each token [d] to mean 0 and variance 1, then scaled and shifted."""
        y: Array = x - x.mean(axis=-1, keepdims=True)
        variance = np.einsum("...d, ...d -> ...", y, y)[..., None] / np.float32(x.shape[-1])
        y *= 1 / np.sqrt(variance + np.float32(self.config.norm_eps))
        y *= self.tensors[f"{name}.weight"]
        y += self.tensors[f"{name}.bias"]
        return y

    def shared(self, size: int, work: Callable[[slice], None], unit: int = 1) -> None:
        """Do `work` on slices of range(size), one a thread, cut at multiples of `unit`; the first in this thread."""
        cuts = [size * i // self.threads // unit * unit for i in range(self.threads)] + [size]
        first, *others = [slice(a, b) for a, b in pairwise(cuts) if a < b]
        waiting = [self.pool.submit(copy_context().run, work, other) for other in others]  # np.errstate comes along
        work(first)
        for other in waiting:
            other.result()


def softmax(x: Array) -> None:
    """Over the last axis, in place."""
    x -= x.max(axis=-1, keepdims=True)
    np.exp(x, out=x)
    x /= x.sum(axis=-1, keepdims=True)


def rotate(x: Array, rotation: Array) -> None:
    """Turn pairs of neighbouring numbers [b h n (f two)] by cosines and sines [2 h n f] of their angles, in place."""
    cos, sin = rotation[:, :, : x.shape[2]]
    u, v = rearrange(x, "b h n (f two) -> two b h n f", two=2)
    u[...], v[...] = u * cos - v * sin, u * sin + v * cos


# log of the normal distribution's upper tail, log(erfc(u / sqrt 2) / 2), for u in [0, 6], highest power first: a
# polynomial of degree 6, least squares iterated to the smallest worst error of u times the tail (5e-8).
LOG_TAIL = tuple(
    np.float32(c)
    for c in (
        2.293816697568586e-05,
        -0.0005331822445944835,
        0.005601125116204641,
        -0.03702244815973061,
        -0.3179958077457421,
        -0.797952213618933,
        -0.6931423708684568,
    )
)


def gelu_exact(x: Array) -> None:
    """GELU, x times the normal distribution at x, in place, within 3e-7 of the truth: [n d].

    Hendrycks and Gimpel, "Gaussian Error Linear Units" (2016). With u = |x| it is max(x, 0) - u * tail(u), and the
    tail is exp of nearly a parabola: fewer operations, and more precise in float32, than a rational approximation of
    erf or Abramowitz and Stegun's 7.1.26.
    """
    us, ps = np.empty((2, max(1, BLOCK // x.shape[1]), x.shape[1]), np.float32)
    for i in range(0, len(x), len(us)):
        y = x[i : i + len(us)]
        u, p = us[: len(y)], ps[: len(y)]
        np.abs(y, out=u)
        np.minimum(u, np.float32(6), out=u)  # the tail is nothing from here on, the polynomial is not
        np.multiply(u, LOG_TAIL[0], out=p)
        for c in LOG_TAIL[1:-1]:
            p += c
            p *= u
        p += LOG_TAIL[-1]
        np.exp(p, out=p)
        p *= u
        np.maximum(y, 0, out=y)
        y -= p


def gelu_tanh(x: Array) -> None:
    """The tanh approximation of GELU that the original JAX code uses, in place: [n d]."""
    us = np.empty((max(1, BLOCK // x.shape[1]), x.shape[1]), np.float32)
    for i in range(0, len(x), len(us)):
        y = x[i : i + len(us)]
        u = us[: len(y)]
        np.multiply(y, y, out=u)
        u *= np.float32(0.044715)
        u += np.float32(1)
        u *= y
        u *= np.float32((2 / np.pi) ** 0.5)
        np.tanh(u, out=u)
        u += np.float32(1)
        u *= np.float32(0.5)
        y *= u


def silu(x: Array, slope: float = 1.0) -> None:
    """SiLU, x times the logistic function of `slope` times x, in place: [n d]."""
    us = np.empty((max(1, BLOCK // x.shape[1]), x.shape[1]), np.float32)
    for i in range(0, len(x), len(us)):
        y = x[i : i + len(us)]
        u = us[: len(y)]
        np.multiply(y, np.float32(-slope), out=u)
        np.exp(u, out=u)
        u += np.float32(1)
        y /= u


GELUS: dict[str, Callable[[Array], None]] = {
    "exact": gelu_exact,
    "tanh": gelu_tanh,
    "quick": partial(silu, slope=1.702),
}
