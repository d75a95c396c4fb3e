"""PGD in the l_inf ball: Madry et al., "Towards deep learning models resistant to adversarial attacks" (ICLR 2018).

The paper prints no settings for it. Its Table I shows rho_inf = 0.0101, and eq. (10) divides by the largest pixel,
which Table I's rows for LRPC put at 250.6 on average (10 / 250.6 = 0.0399): an eps of 2.53. Table II's 0.0035 is one of
0.88.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from c2f_lrp.attacks.base import BoundedAttack, Iterate, clip


@dataclass(frozen=True, kw_only=True)
class PGD(BoundedAttack):
    """Signed steps up the cross-entropy of the label, projected onto |eta| <= eps; from eta = 0 unless random_start.

    eps, step_size: in pixel units; step_size None: eps / 4. early_stop: an image that is fooled is not moved further
    (ours; it keeps perturbations small); False: all K steps are taken, and the last iterate is judged, as published.
    """

    title: ClassVar[str] = "PGD"

    eps: float = 2.53
    step_size: float | None = None
    iterations: int = 40
    early_stop: bool = False

    def __post_init__(self):
        super().__post_init__()
        if self.step_size is not None and not self.step_size > 0:
            raise ValueError(f"step_size is {self.step_size}; give a step in pixel units above 0, or None for eps / 4")

    @property
    def stops_early(self) -> bool:  # type: ignore[override]  # a setting here
        return self.early_stop

    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        return (labels,)

    def step(self, at: Iterate, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (labels,) = memory
        gradient = at.gradient(F.cross_entropy(at.logits, labels, reduction="none"))
        size = self.eps / 4 if self.step_size is None else self.step_size
        return clip(at.perturbation.add(gradient.sign_(), alpha=size), at.pixels, self.eps), memory


class PGDC(PGD):
    """PGD on the coarse network."""

    level: ClassVar[str] = "coarse"


@dataclass(frozen=True, kw_only=True)
class PGDF(PGD):
    """PGD on the fine network of each image's coarse class; an image is fooled only if C(x + eta) is still its label.

    Its smaller default bound is the one that Table II shows: rho_inf = 0.0035.
    """

    eps: float = 0.88

    level: ClassVar[str] = "fine"
