"""What every attack shares: the loop over the images still standing, the two levels, and what "fooled" means."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from c2f_lrp.classifier import CoarseToFine
from c2f_lrp.lrp import check_pixels

BATCH_SIZE = 64


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to N images.

    perturbation  (N, 3, H, W), in pixel units: the attacked images are pixels + perturbation, in [0, 255]
    fooled        bool (N,): the label of the attack's level changed, and at the fine level the coarse one did not
    iterations    int64 (N,): steps taken until the image left the loop; 0 where it counted as fooled beforehand
    """

    perturbation: Tensor
    fooled: Tensor
    iterations: Tensor


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """One attack with its settings; call it on a classifier and images.

    A subclass names its `level` and writes `start` and `step`; `iterations` is K, the most steps an image gets.
    """

    iterations: int

    level: ClassVar[str]  # "coarse": C(x) is to change; "fine": F^y(x) is to change and C(x) to stay
    stops_at_flip: ClassVar[bool] = False  # leave when the level's label changes, though the coarse one may have too

    def __post_init__(self):
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; an attack needs at least 1")
        if not getattr(self, "eps", 1) > 0:
            raise ValueError(f"eps is {self.eps}; give a bound in pixel units above 0, such as 10 on the 0..255 scale")

    @abstractmethod
    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What the steps remember of each image: tensors whose first dimension is N."""

    def prepare(self, network: nn.Module):
        """What the steps need of the network, made once for a batch; the network itself, unless a subclass differs."""
        return network

    @abstractmethod
    def step(
        self, network: nn.Module, pixels: Tensor, perturbation: Tensor, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step from pixels + perturbation: the next perturbation (N, 3, H, W) and memory."""

    def __call__(
        self,
        classifier: CoarseToFine,
        pixels: Tensor,
        coarse_labels: Tensor,
        fine_labels: Tensor,
        *,
        batch_size: int = BATCH_SIZE,
        progress: bool = False,
    ) -> AttackResult:
        """Attack images (N, 3, H, W) in [0, 255] with their true labels (N,), int64.

        An image leaves as soon as it is fooled, so one whose label at this level is wrong beforehand leaves at once
        with no perturbation and counts as fooled (Algorithm 1 as printed); leave such images out to be stricter. At
        the fine level the coarse label must be right for that, and each image is attacked on the fine network of its
        own coarse label. Images are attacked in batches of `batch_size`.

        Raises ValueError for pixels out of range, labels that do not fit, a classifier in training mode, non-finite
        logits, and at the fine level for an image whose coarse class has one fine class only.
        """
        check_inputs(classifier, pixels, coarse_labels, fine_labels)
        result = AttackResult(
            torch.zeros_like(pixels),
            torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device),
            torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device),
        )
        with tqdm(total=len(pixels), desc=type(self).__name__, unit="image", disable=not progress, leave=False) as bar:
            for network, rows in self.networks(classifier, coarse_labels):
                for part in rows.split(batch_size):
                    labels = coarse_labels[part], fine_labels[part]
                    done = self.attack_batch(classifier, network, pixels[part], *labels, bar)
                    for total, value in zip(vars(result).values(), done, strict=True):
                        total[part] = value
        return result

    def networks(self, classifier: CoarseToFine, coarse_labels: Tensor) -> list[tuple[nn.Module, Tensor]]:
        """The networks whose label is to change, each with the rows of its images."""
        if self.level == "coarse":
            return [(classifier.coarse, torch.arange(len(coarse_labels), device=coarse_labels.device))]
        present = coarse_labels.unique().tolist()
        names = classifier.hierarchy.coarse_names
        single = [names[label] for label in present if classifier.hierarchy.n_fine[label] < 2]
        if single:
            raise ValueError(
                f"coarse class {', '.join(single)} has a single fine class, so there is no fine label to change; "
                "leave its images out of fine-level attacks"
            )
        return [(classifier.fine[label], (coarse_labels == label).nonzero().squeeze(1)) for label in present]

    def attack_batch(
        self, classifier: CoarseToFine, network: nn.Module, pixels: Tensor, coarse: Tensor, fine: Tensor, bar: tqdm
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loop of Algorithm 1 over one batch for one network; the fields of `AttackResult`."""
        perturbation = torch.zeros_like(pixels)
        fooled = torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device)
        iterations = torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device)
        standing = torch.arange(len(pixels), device=pixels.device)  # rows still attacked
        memory = self.start(network, pixels, coarse if self.level == "coarse" else fine)
        prepared = self.prepare(network)
        for iteration in range(self.iterations + 1):
            attacked = pixels[standing] + perturbation[standing]
            flipped, success = self.outcome(classifier, network, attacked, coarse[standing], fine[standing])
            fooled[standing] = success
            leaving = flipped if self.stops_at_flip else success
            bar.update(len(standing) if iteration == self.iterations else int(leaving.sum()))
            standing, memory = standing[~leaving], tuple(entry[~leaving] for entry in memory)
            if iteration == self.iterations or not len(standing):
                break
            perturbation[standing], memory = self.step(prepared, pixels[standing], perturbation[standing], memory)
            iterations[standing] += 1
        return perturbation, fooled, iterations

    @torch.no_grad()
    def outcome(
        self, classifier: CoarseToFine, network: nn.Module, attacked: Tensor, coarse: Tensor, fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two bools (N,): the label of this level changed; and it did so in the sense of `AttackResult.fooled`."""
        coarse_changed = finite(classifier.coarse(attacked)).argmax(1) != coarse
        if self.level == "coarse":
            return coarse_changed, coarse_changed
        fine_changed = finite(network(attacked)).argmax(1) != fine
        return fine_changed, fine_changed & ~coarse_changed


def clip(perturbation: Tensor, pixels: Tensor, eps: float | None = None) -> Tensor:
    """The perturbation within [-eps, eps] and, added to the pixels, within [0, 255]: both exactly, also in float32."""
    inside = torch.maximum(torch.minimum(perturbation, 255 - pixels), -pixels)
    return inside if eps is None else inside.clamp(-eps, eps)


def input_gradient(objective, attacked: Tensor) -> Tensor:
    """Gradient (N, 3, H, W) of the per-image values objective(attacked), (N,), at the attacked images."""
    with torch.enable_grad():
        attacked = attacked.detach().requires_grad_()
        return torch.autograd.grad(objective(attacked).sum(), attacked)[0]


def finite(logits: Tensor) -> Tensor:
    if not logits.isfinite().all():
        raise ValueError("the classifier gave logits that are not finite; check its weights and the image values")
    return logits


def check_inputs(classifier: CoarseToFine, pixels: Tensor, coarse_labels: Tensor, fine_labels: Tensor) -> None:
    """Refuse what no attack can use, saying what was given and what is allowed."""
    check_pixels(pixels)
    if any(module.training for module in classifier.modules()):
        raise ValueError("the classifier is in training mode, where dropout is random; call .eval() first")
    hierarchy = classifier.hierarchy
    for name, labels in (("coarse_labels", coarse_labels), ("fine_labels", fine_labels)):
        if labels.shape != (len(pixels),) or labels.dtype != torch.int64:
            raise ValueError(
                f"{name} are {labels.dtype} of shape {tuple(labels.shape)}; give int64 of shape ({len(pixels)},)"
            )
    if not len(pixels):
        return
    if coarse_labels.min() < 0 or coarse_labels.max() >= hierarchy.n_coarse:
        given = f"{coarse_labels.min().item()}..{coarse_labels.max().item()}"
        raise ValueError(f"coarse_labels lie in {given}; allowed are 0..{hierarchy.n_coarse - 1}")
    sizes = torch.tensor(hierarchy.n_fine, device=fine_labels.device)[coarse_labels]
    wrong = ((fine_labels < 0) | (fine_labels >= sizes)).nonzero().flatten().tolist()
    if wrong:
        row = wrong[0]
        raise ValueError(
            f"fine_labels[{row}] is {fine_labels[row].item()}; coarse class "
            f"{hierarchy.coarse_names[coarse_labels[row]]} allows 0..{sizes[row].item() - 1}"
        )
