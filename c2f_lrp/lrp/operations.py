"""What stands between layers with weights, each with its rule: no weights enter, and none can be chosen.

Each operation is one object that can be called, and that hands relevance on in two ways:

    relevance(*a)     its output, and a function: the relevance of the output -> that of each input
    totals(a, reach)  its output, and the reach of the output; a reach of None is 1 everywhere

A maximum passes relevance to the input that won. Averages and sums share it in proportion to the size of what they
add, |a_1| : |a_2|, which hands on what comes whatever the signs; for a >= 0, as behind ReLUs, that is in proportion to
a. (zennit's Norm divides by the signed sum: it conserves as well, but where terms nearly cancel the shares exceed
everything.) The paper has no such operation but the maximum.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from c2f_lrp.classifier import GroupLogSumExp, Slice
from c2f_lrp.devices import fast_format
from c2f_lrp.lrp.rules import nonzero, one_where_alive

HandDownAll = Callable[[Tensor], tuple[Tensor, ...]]  # the relevance of the output -> of each input
Reach: TypeAlias = Tensor | None


@dataclass
class Through:
    """One input to one output, as of a ReLU: relevance passes."""

    function: Callable[[Tensor], Tensor]

    def __call__(self, a: Tensor) -> Tensor:
        return self.function(a)

    def relevance(self, a: Tensor) -> tuple[Tensor, HandDownAll]:
        return self(a), lambda r: (r,)

    def totals(self, a: tuple[Tensor], reach: tuple[Reach]) -> tuple[Tensor, Reach]:
        return self(*a), reach[0]


@dataclass
class Reshape:
    """(N, ...) -> (N, *shape): flattening and the like."""

    shape: tuple[int, ...]

    def __call__(self, a: Tensor) -> Tensor:
        return a.reshape(len(a), *self.shape)

    def relevance(self, a: Tensor) -> tuple[Tensor, HandDownAll]:
        return self(a), lambda r: (r.reshape(a.shape),)

    def totals(self, a: tuple[Tensor], reach: tuple[Reach]) -> tuple[Tensor, Reach]:
        return self(*a), None if reach[0] is None else self(reach[0])


@dataclass
class Pad:
    """Zeros around (N, C, H, W): left, right, top, bottom, as many rows or columns as the numbers say, cut if < 0."""

    widths: tuple[int, int, int, int]

    def __call__(self, a: Tensor) -> Tensor:
        return F.pad(a, self.widths)

    def relevance(self, a: Tensor) -> tuple[Tensor, HandDownAll]:
        return self(a), lambda r: (F.pad(r, [-width for width in self.widths]),)

    def totals(self, a: tuple[Tensor], reach: tuple[Reach]) -> tuple[Tensor, Reach]:
        # Whatever reach a zero has: it contributes nothing.
        return self(*a), None if reach[0] is None else self(reach[0])


@dataclass
class Concatenation:
    """Inputs side by side along a dimension: relevance splits as they were."""

    dim: int

    def __call__(self, *a: Tensor) -> Tensor:
        return torch.cat(a, self.dim)

    def relevance(self, *a: Tensor) -> tuple[Tensor, HandDownAll]:
        sizes = [x.shape[self.dim] for x in a]
        return self(*a), lambda r: r.split(sizes, self.dim)

    def totals(self, a: tuple[Tensor, ...], reach: tuple[Reach, ...]) -> tuple[Tensor, Reach]:
        if all(r is None for r in reach):
            return self(*a), None
        return self(*a), self(*(torch.ones_like(x) if r is None else r for x, r in zip(a, reach, strict=True)))


@dataclass
class Sum:
    """a_1 + a_2: R_k = |a_k| / (|a_1| + |a_2|) R. A sum of three is two sums."""

    def __call__(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b

    def relevance(self, a: Tensor, b: Tensor) -> tuple[Tensor, HandDownAll]:
        sizes = a.abs(), b.abs()
        z = nonzero(sizes[0] + sizes[1])

        def hand_down(r: Tensor) -> tuple[Tensor, ...]:
            r = r / z
            return sizes[0] * r, sizes[1] * r

        return self(a, b), hand_down

    def totals(self, a: tuple[Tensor, Tensor], reach: tuple[Reach, Reach]) -> tuple[Tensor, Reach]:
        if reach[0] is None and reach[1] is None:
            with torch.no_grad():
                alive = one_where_alive(a[0].abs() + a[1].abs())
            return self(*a), alive
        return SumReach.apply(*a, *reach)


class SumReach(Function):
    """a + b, and (|a| reach_a + |b| reach_b) / (|a| + |b|); the derivative by hand, with few tensors on the way."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, reach_a: Reach, reach_b: Reach) -> tuple[Tensor, Tensor]:
        size_a, size_b = a.abs(), b.abs()
        z = nonzero(size_a + size_b)
        reach = (size_a if reach_a is None else size_a.mul_(reach_a)).add_(
            size_b if reach_b is None else size_b.mul_(reach_b)
        )
        reach = reach.div_(z)
        ctx.save_for_backward(a, b, reach_a, reach_b, z, reach)
        ctx.set_materialize_grads(False)
        return a + b, reach

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_sum: Tensor | None, grad_reach: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, reach_a, reach_b, z, reach = ctx.saved_tensors
        if grad_reach is None:
            return grad_sum, grad_sum, None, None
        share = grad_reach / z
        grads_a, grads_reach = [], []
        for x, reach_x in ((a, reach_a), (b, reach_b)):
            grad = (1.0 - reach if reach_x is None else reach_x - reach).mul_(share).mul_(x.sign())
            grads_a.append(grad if grad_sum is None else grad.add_(grad_sum))
            grads_reach.append(None if reach_x is None else share * x.abs())
        return *grads_a, *grads_reach


def transpose(linear: Callable[[Tensor], Tensor], like: Tensor) -> Callable[[Tensor], Tensor]:
    """The transpose of a linear operation on tensors like this one, differentiable in what it is applied to.

    It is the derivative. torch.func.vjp gives it too, and so does the argument grad_outputs; the first loads torch's
    compiler, the second sympy: together four seconds before the first heatmap.
    """
    with torch.inference_mode(False), torch.enable_grad():
        zeros = torch.zeros_like(like).requires_grad_()
        out = linear(zeros)

    def transposed(v: Tensor) -> Tensor:
        differentiable = torch.is_grad_enabled() and v.requires_grad
        with torch.inference_mode(False), torch.enable_grad():
            v = v.clone() if v.is_inference() else v
            (given,) = torch.autograd.grad((out * v).sum(), zeros, retain_graph=True, create_graph=differentiable)
        return given

    return transposed


@dataclass
class Average:
    """A linear operation with weights m_ij >= 0, as average pooling and means: R_i = |a_i| sum_j m_ij R_j / z_j, with
    z_j = sum_i |a_i| m_ij. nonnegative: whether the graph proves that a >= 0, where z_j is the output.
    """

    layer: Callable[[Tensor], Tensor]
    nonnegative: bool

    def __call__(self, a: Tensor) -> Tensor:
        return self.layer(a)

    def relevance(self, a: Tensor) -> tuple[Tensor, HandDownAll]:
        out = self(a)
        size, z = (a, out) if self.nonnegative else (a.abs(), self(a.abs()))
        z = nonzero(z)
        transposed = transpose(self.layer, a)
        return out, lambda r: (size * transposed(r / z),)

    def totals(self, inputs: tuple[Tensor], reaches: tuple[Reach]) -> tuple[Tensor, Reach]:
        (a,), (reach,) = inputs, reaches
        out = self(a)
        size, z = (a, out) if self.nonnegative else (a.abs(), self(a.abs()))
        if reach is None:
            return out, one_where_alive(z)
        return out, self(size * reach) / nonzero(z)


@dataclass
class Groups:
    """The output of a network made of a flat one, (N, K) -> (N, M): a group's relevance goes to its members in
    proportion to their softmax within it (Kauffmann et al., "From clustering to cluster explanations via neural
    networks", 2022): a maximum made soft. That is the derivative.
    """

    layer: GroupLogSumExp | Slice

    def __call__(self, a: Tensor) -> Tensor:
        return self.layer(a)

    def relevance(self, a: Tensor) -> tuple[Tensor, HandDownAll]:
        return self(a), lambda r: (self.layer.spread(a, r),)

    def totals(self, a: tuple[Tensor], reach: tuple[Reach]) -> tuple[Tensor, Reach]:
        return self(*a), None if reach[0] is None else self.layer.mean(*a, *reach)


# ----------------------------------------------------------------------------------------------------- winner takes all
@dataclass
class Maximum:
    """Max pooling: relevance passes to the input that won."""

    layer: nn.MaxPool2d

    def __call__(self, a: Tensor) -> Tensor:
        return self.layer(a)

    def winners(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """The winners' values and their places h W + w."""
        layer = self.layer
        settings = layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.ceil_mode
        return F.max_pool2d(a, *settings, return_indices=True)

    def relevance(self, a: Tensor) -> tuple[Tensor, HandDownAll]:
        out, winners = self.winners(a)
        return out, lambda r: (Put.apply(r, winners, self.layer, a.shape),)

    def totals(self, a: tuple[Tensor], reach: tuple[Reach]) -> tuple[Tensor, Reach]:
        out, winners = self.winners(a[0])
        return out, None if reach[0] is None else Take.apply(reach[0], winners, self.layer)


class Take(Function):
    """What the winners hold: (N, C, H, W) -> one value for each window. The transpose of `Put`."""

    @staticmethod
    def forward(ctx, values: Tensor, winners: Tensor, layer: nn.MaxPool2d) -> Tensor:
        ctx.save_for_backward(winners)
        ctx.layer, ctx.shape = layer, values.shape
        # Channels last, so that both are views.
        flat, places = (x.permute(0, 2, 3, 1).flatten(1, 2) for x in (values, winners))
        return flat.gather(1, places).unflatten(1, winners.shape[2:]).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Put.apply(grad, *ctx.saved_tensors, ctx.layer, ctx.shape), None, None


class Put(Function):
    """One value for each window -> to the winners, added up where one wins twice, (N, C, H, W)."""

    @staticmethod
    def forward(ctx, values: Tensor, winners: Tensor, layer: nn.MaxPool2d, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(winners)
        ctx.layer = layer
        like = torch.empty(shape, dtype=values.dtype, device=values.device, memory_format=fast_format(values))
        geometry = [x if isinstance(x, tuple) else (x, x) for x in (layer.kernel_size, layer.stride, layer.padding)]
        dilation = layer.dilation if isinstance(layer.dilation, tuple) else (layer.dilation, layer.dilation)
        return torch.ops.aten.max_pool2d_with_indices_backward(
            values, like, *geometry, dilation, layer.ceil_mode, winners
        )

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor | None, ...]:
        return Take.apply(grad, *ctx.saved_tensors, ctx.layer), None, None, None
