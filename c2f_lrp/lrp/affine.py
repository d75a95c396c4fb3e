"""Layers with weights: y_j = sum_i a_i w_ij + b_j, and what relevance needs of them.

A convolution, a linear layer, or a scale and a shift for each channel (batch normalisation that no layer before it
absorbs). Batch normalisation right behind a convolution or linear layer is folded into it.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from c2f_lrp.devices import fast_layout


class Place(NamedTuple):
    """Where a parameter or buffer is kept. It is looked up at every call, so that a changed network is seen."""

    owner: nn.Module
    name: str

    def now(self) -> Tensor:
        return getattr(self.owner, self.name)


class Norm(NamedTuple):
    """Batch normalisation in inference: (y - mean) / sqrt(var + eps) * weight + bias, per channel."""

    mean: Place
    var: Place
    weight: Place | None
    bias: Place | None
    eps: float

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Both (C,): y * scale + shift."""
        scale = (self.var.now() + self.eps).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight.now()
        shift = -self.mean.now() * scale
        return scale, shift if self.bias is None else shift + self.bias.now()


class Weights(NamedTuple):
    """w_ij, b_j and b+_j of a layer (no bias: None), and the nonnegative weights that `Affine.positive` applies."""

    weight: Tensor
    bias: Tensor | None
    positive: Tensor
    positive_bias: Tensor | None


@dataclass
class Affine:
    """What the three kinds share. Tensors a are (N, C, H, W), or (N, ..., C) before a linear layer.

    nonnegative: whether the network's graph proves that the inputs are a >= 0, as behind a ReLU. Otherwise the
    positive contributions (a_i w_ij)+ are a+_i w+_ij + a-_i w-_ij, which is one product of [a+, -a-] with [w+, -w-].
    """

    weight: Place | None
    bias: Place | None
    nonnegative: bool
    norm: Norm | None = None
    known: Weights | None = field(default=None, repr=False)
    known_at: tuple = field(default=(), repr=False)

    def weights(self) -> Weights:
        """Computed once, and again after a change of the network's weights."""
        places = [self.weight, self.bias, *(() if self.norm is None else self.norm[:4])]
        sources = [place.now() for place in places if place is not None]
        at = tuple((source.data_ptr(), source._version, source.dtype) for source in sources)
        if at != self.known_at:
            # Kept for later calls, which may want gradients: no inference tensors.
            with torch.inference_mode(False), torch.no_grad():
                weight, bias = self.folded()
                bias = None if bias is None else bias.detach()
                weight = self.laid_out(weight.detach())
                positive = weight.clamp(min=0)
                if not self.nonnegative:
                    positive = self.laid_out(self.joined(positive, -weight.clamp(max=0)))
                self.known = Weights(weight, bias, positive, None if bias is None else bias.clamp(min=0))
            self.known_at = at
        assert self.known is not None
        return self.known

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """w and b with the batch normalisation in them."""
        assert self.weight is not None  # else it is a Scale, which has a way of its own
        weight, bias = self.weight.now(), None if self.bias is None else self.bias.now()
        if self.norm is None:
            return weight, bias
        scale, shift = self.norm.scale_and_shift()
        weight = weight * scale.view(-1, *[1] * (weight.ndim - 1)).to(weight)
        return weight, shift if bias is None else bias * scale + shift

    def __call__(self, a: Tensor) -> Tensor:
        """sum_i a_i w_ij + b_j"""
        weights = self.weights()
        return self.apply(a, weights.weight, weights.bias)

    def positive(self, halves: Tensor, bias: bool = False) -> Tensor:
        """sum_i (a_i w_ij)+, and + b+_j if asked for. halves: what `halves` makes of a."""
        weights = self.weights()
        return self.apply(halves, weights.positive, weights.positive_bias if bias else None)

    def positive_transposed(self, s: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `positive`: from s like the layer's outputs to the shape of the halves."""
        return self.transpose(s, self.weights().positive, shape)

    def halves(self, a: Tensor) -> Tensor:
        """a itself where it is nonnegative, else [a+, -a-]."""
        return a if self.nonnegative else self.joined(a.clamp(min=0), -a.clamp(max=0))

    def positive_bias(self) -> Tensor | float:
        """b+_j in a shape that fits the layer's outputs, or 0."""
        bias = self.weights().positive_bias
        return 0.0 if bias is None else self.per_output(bias)

    def apply(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """sum_i a_i w_ij + b_j with other weights of the layer's shape."""
        raise NotImplementedError

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `apply`: from the layer's outputs back to the shape of its inputs."""
        raise NotImplementedError

    def joined(self, one: Tensor, other: Tensor) -> Tensor:
        """Two halves as one, of inputs and of weights alike, so that `apply` sums over both."""
        raise NotImplementedError

    def parted(self, both: Tensor) -> tuple[Tensor, ...]:
        """The two halves that `joined` joined, of inputs."""
        raise NotImplementedError

    def per_output(self, bias: Tensor) -> Tensor:
        return bias.view(-1, 1, 1)

    def laid_out(self, weight: Tensor) -> Tensor:
        return weight


@dataclass
class Conv(Affine):
    """A two-dimensional convolution; padding is zero and a number for each axis."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def laid_out(self, weight: Tensor) -> Tensor:
        return fast_layout(weight)  # or every call would copy it so

    def apply(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """sum_i a_i w_ij + b_j with other weights of the layer's shape."""
        return F.conv2d(a, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `apply`: from the layer's outputs back to the shape of its inputs."""
        # Rows that a stride leaves over at the far border, which the transposed convolution must put back.
        rest = [
            (size + 2 * pad - dil * (kernel - 1) - 1) % stride
            for size, pad, dil, kernel, stride in zip(
                shape[2:], self.padding, self.dilation, weight.shape[2:], self.stride, strict=True
            )
        ]
        return F.conv_transpose2d(s, weight, None, self.stride, self.padding, rest, self.groups, self.dilation)

    def joined(self, one: Tensor, other: Tensor) -> Tensor:
        """Channels (C) twice -> (2C): those of each group side by side. Of weights as well as of inputs."""
        assert self.weight is not None
        if one.shape[1] == self.weight.now().shape[1]:  # weights, or inputs of a single group
            return torch.cat([one, other], 1)
        return torch.cat([x.unflatten(1, (self.groups, -1)) for x in (one, other)], 2).flatten(1, 2)

    def parted(self, both: Tensor) -> tuple[Tensor, ...]:
        """What `joined` joined."""
        if self.groups == 1:
            return both.chunk(2, 1)
        return tuple(x.flatten(1, 2) for x in both.unflatten(1, (self.groups, -1)).chunk(2, 2))


@dataclass
class Linear(Affine):
    def apply(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """sum_i a_i w_ij + b_j with other weights of the layer's shape."""
        return F.linear(a, weight, bias)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `apply`: from the layer's outputs back to its inputs."""
        return s @ weight

    def joined(self, one: Tensor, other: Tensor) -> Tensor:
        return torch.cat([one, other], -1)

    def parted(self, both: Tensor) -> tuple[Tensor, ...]:
        return both.chunk(2, -1)

    def per_output(self, bias: Tensor) -> Tensor:
        return bias


@dataclass
class Scale(Affine):
    """a_i w_i + b_i, one w and b for each channel: batch normalisation where no layer before it absorbs it.

    Weights are (C, 1, 1) for inputs (N, C, H, W) and (C,) for inputs (N, C).
    """

    ndim: int = 4

    def folded(self) -> tuple[Tensor, Tensor]:
        assert self.norm is not None
        scale, shift = self.norm.scale_and_shift()
        return scale.view(-1, *[1] * (self.ndim - 2)), shift

    def apply(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """a_i w_i + b_i with other weights; where they are halves (2, C, ...), summed over the halves."""
        product = a * weight
        if product.ndim > self.ndim:
            product = product.sum(1)
        return product if bias is None else product + self.per_output(bias)

    def transpose(self, s: Tensor, weight: Tensor, shape: torch.Size) -> Tensor:
        """The transpose of `apply`."""
        return (s if weight.ndim < self.ndim else s[:, None]) * weight

    def joined(self, one: Tensor, other: Tensor) -> Tensor:
        """Inputs (N, C, ...) -> (N, 2, C, ...), weights (C, ...) -> (2, C, ...)."""
        return torch.stack([one, other], one.ndim - self.ndim + 1)

    def parted(self, both: Tensor) -> tuple[Tensor, ...]:
        return both.unbind(1)

    def per_output(self, bias: Tensor) -> Tensor:
        return bias.view(-1, *[1] * (self.ndim - 2))
