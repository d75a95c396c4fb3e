"""A margin attack: gradient descent on f_y - max_{k != y} f_k, the loss of Carlini and Wagner, "Towards evaluating the
robustness of neural networks" (IEEE S&P 2017), within |eta| <= eps. Not in the paper: the example of how an attack is
added, and the yardstick for LRPC and LRPF, whose loss it is when relevance starts at the logit and all is handed on.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from c2f_lrp.attacks.base import BoundedAttack, Iterate, clip, largest_entry


@dataclass(frozen=True, kw_only=True)
class Margin(BoundedAttack):
    """Steps down the margin of the label over the best other label, whichever that is by then.

    eps: bound in pixel units. lr: the largest change of a pixel in one step.
    """

    title: ClassVar[str] = "margin"

    eps: float = 10
    lr: float = 10
    iterations: int = 40

    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What the steps need to know of each image: here its label (N,)."""
        return (labels,)

    def step(self, at: Iterate, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (labels,) = memory
        label = at.logits.gather(1, labels[:, None]).squeeze(1)  # f_y, (N,)
        others = at.logits.scatter(1, labels[:, None], -torch.inf).amax(1)  # max_{k != y} f_k, (N,)
        gradient = at.gradient(label - others)  # (N, 3, H, W)
        step = self.lr * gradient / largest_entry(gradient)  # no gradient, no step
        return clip(at.perturbation - step, at.pixels, self.eps), memory


class MarginC(Margin):
    """The margin of the coarse network."""

    level: ClassVar[str] = "coarse"


class MarginF(Margin):
    """The margin of the fine network of each image's coarse class."""

    level: ClassVar[str] = "fine"
