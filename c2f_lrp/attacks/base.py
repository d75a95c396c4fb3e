"""What every attack shares: the loop over the images under attack, the two levels, and what "fooled" means."""

import warnings
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Any, ClassVar, get_args

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from c2f_lrp.checks import check_inputs
from c2f_lrp.classifier import CoarseToFine, finite
from c2f_lrp.devices import fast_layout, whole_float32
from c2f_lrp.resources import fitting_batch


@dataclass(frozen=True)
class AttackResult:
    """What an attack did to N images.

    perturbation  (N, 3, H, W), in pixel units: the attacked images are pixels + perturbation, in [0, 255]
    fooled        bool (N,): the label of the attack's level changed, and at the fine level the coarse one did not, as
                  the attack saw it; within rounding of the boundary, a look in another batch may say otherwise
    iterations    int64 (N,): steps taken until the image left the loop; 0 where it counted as fooled beforehand
    """

    perturbation: Tensor
    fooled: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class Iterate:
    """Where the images under attack are, and what the network says there.

    prepared      what the attack's `prepare` made of the attacked network
    pixels        (N, 3, H, W), in [0, 255]: the clean images; perturbation: the same shape, in pixel units
    logits        (N, M) of the attacked network at pixels + perturbation
    coarse        int64 (N,), C(pixels + perturbation), for attacks that ask for it (`needs_coarse`); else None
    loss          (N,), what LRPC and LRPF descend, where it came with the logits; else None
    bounds        (N, 1, 1, 1) in pixel units, where the images of a batch have bounds of their own; else None
    """

    prepared: Any
    pixels: Tensor
    perturbation: Tensor
    logits: Tensor
    coarse: Tensor | None
    inputs: Tensor  # the batch that the network was given, with images that have left since
    rows: Tensor  # the places in it of the images still under attack
    loss: Tensor | None = None
    bounds: Tensor | None = None

    def gradient(self, values: Tensor, *, keep_graph: bool = False) -> Tensor:
        """d values / d perturbation, (N, 3, H, W), of one value per image (N,) made of `logits`, or of `loss`.

        Takes no second forward pass. keep_graph: another gradient of the same logits will follow.
        """
        return take_rows(torch.autograd.grad(values.sum(), self.inputs, retain_graph=keep_graph), self.rows)[0]

    def select(self, rows: Tensor) -> "Iterate":
        """The iterate of the images at these places alone; `logits` keep the graph of the whole batch."""
        pixels, perturbation, logits = take_rows((self.pixels, self.perturbation, self.logits), rows)
        given = self.coarse, self.loss, self.bounds
        coarse, loss, bounds = (None if values is None else values[rows] for values in given)
        return Iterate(self.prepared, pixels, perturbation, logits, coarse, self.inputs, rows, loss, bounds)


@dataclass(frozen=True, kw_only=True)
class Attack(ABC):
    """One attack with its settings; call it on a classifier and images.

    A subclass names its `title` and `level` and writes `start` and `step`. `iterations` is K, the most steps an image
    gets.
    """

    iterations: int

    title: ClassVar[str]  # what both levels of the attack are called in the demo
    level: ClassVar[str]  # "coarse": C(x) is to change; "fine": F^y(x) is to change and C(x) to stay
    stops_at_flip: ClassVar[bool] = False  # leave when the level's label changes, though the coarse one may have too
    tests_first: ClassVar[bool] = True  # an image whose label is wrong beforehand leaves at once, without a step
    needs_coarse: ClassVar[bool] = False  # whether steps at the fine level use `Iterate.coarse`
    stops_early: ClassVar[bool] = True  # an image leaves when it is fooled; False: all K steps, the last iterate counts
    uses_logits: ClassVar[bool] = True  # whether steps take `Iterate.gradient`, so that its logits need a graph
    mixes_bounds: ClassVar[bool] = False  # whether steps keep to `Iterate.bounds`; each class says so for itself

    def __post_init__(self):
        for setting in fields(self):
            check_kind(setting.name, getattr(self, setting.name), setting.type, type(self).__name__)
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; an attack needs at least 1")

    @abstractmethod
    def start(self, network: nn.Module, pixels: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
        """What the steps remember of each image: tensors whose first dimension is N."""

    @abstractmethod
    def step(self, at: Iterate, memory: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step from `at`: the next perturbation (N, 3, H, W), within its bounds, and memory."""

    def prepare(self, network: nn.Module):
        """What the steps need of the attacked network, made once; the network itself, unless a subclass differs."""
        return network

    def prepare_in(self, classifier: CoarseToFine, network: nn.Module):
        """What the steps need, for attacks that also need the classifier which the network is part of."""
        return self.prepare(network)

    def initial(self, pixels: Tensor) -> Tensor:
        """The perturbation (N, 3, H, W) to start from."""
        return torch.zeros_like(pixels)

    def rank(self, at: Iterate, memory: tuple[Tensor, ...]) -> Tensor | None:
        """For attacks that keep the best of K iterates: a value (N,), the smaller the better. None: the first success
        ends the attack on an image.
        """
        return None

    @torch.inference_mode(False)  # gradients are needed, also inside a caller's inference mode
    @whole_float32()
    def __call__(
        self,
        classifier: CoarseToFine,
        pixels: Tensor,
        coarse_labels: Tensor,
        fine_labels: Tensor,
        *,
        batch_size: int | None = None,
        progress: bool = False,
        watch: Callable[["Iterate"], None] | None = None,
        bounds: Tensor | None = None,
    ) -> AttackResult:
        """Attack images (N, 3, H, W) in [0, 255] with their true labels (N,), int64.

        An image leaves as soon as it is fooled, unless the attack takes all its steps, as PGD does. One whose label at
        this level is wrong beforehand leaves at once with no perturbation and counts as fooled; LRPC and LRPF, which
        step before they test as Algorithm 1 does, and PGD move it too. Leave such images out to be stricter. At the
        fine level the coarse label must be right for that, and each image is attacked on the fine network of its own
        coarse label (LRPF follows line 9 to another one while the coarse label is wrong; see its `fine_network`).

        Images are attacked in batches of `batch_size`; None: as many as half of the free memory holds, up to 64. When
        half of a batch has left, the next images fill it up. `watch` is called with every iterate
        of a batch, the clean images first and the last ones included: what a picture of the attack's course needs.
        `bounds`, (N,) in pixel units, gives each image a bound of its own in place of `eps`: see `attacks.bounds`.

        Raises ValueError for pixels out of range, labels that do not fit, a classifier in training mode, non-finite
        logits, and at the fine level for an image whose coarse class has one fine class only.
        """
        pixels, coarse_labels, fine_labels = check_inputs(classifier, pixels, coarse_labels, fine_labels)
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; give at least 1, or None to choose it from the free memory")
        if bounds is not None:
            bounds = self.checked_bounds(bounds, pixels)
        result = AttackResult(
            torch.zeros_like(pixels, memory_format=torch.contiguous_format),
            torch.zeros(len(pixels), dtype=torch.bool, device=pixels.device),
            torch.zeros(len(pixels), dtype=torch.int64, device=pixels.device),
        )
        with tqdm(total=len(pixels), desc=type(self).__name__, unit="image", disable=not progress, leave=False) as bar:
            for network, rows in self.networks(classifier, coarse_labels):
                size = batch_size or fitting_batch(network, pixels[rows])
                images = pixels, coarse_labels, fine_labels, bounds
                self.loop(classifier, network, rows, size, images, result, bar, watch)
        return result

    @property
    def takes_bounds(self) -> bool:
        """Whether each image may have a bound of its own. A subclass that may use `eps` in its steps is not trusted."""
        return vars(type(self)).get("mixes_bounds", False) and not getattr(self, "random_start", False)

    def checked_bounds(self, bounds: Tensor, pixels: Tensor) -> Tensor:
        """A bound for each image (N,) as steps use it, (N, 1, 1, 1). Raises ValueError for one that is not above 0.

        Raises TypeError for an attack whose class does not say that it can: it might clip them all to its `eps`.
        """
        if not self.takes_bounds:
            raise TypeError(f"{self} has one bound for all images; call it for each bound")
        if bounds.shape != (len(pixels),) or not (bounds.isfinite() & (bounds > 0)).all():
            raise ValueError(f"bounds are {bounds.tolist()}; give {len(pixels)} above 0, one for each image")
        return bounds.to(pixels).view(-1, 1, 1, 1)

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

    def loop(
        self,
        classifier: CoarseToFine,
        network: nn.Module,
        waiting: Tensor,
        size: int,
        images: tuple[Tensor, Tensor, Tensor, Tensor | None],
        result: AttackResult,
        bar: tqdm,
        watch: Callable[[Iterate], None] | None,
    ) -> None:
        """Algorithm 1 for one network on the rows `waiting` of images, `size` of them at a time; fills `result`.

        Each image counts its own steps: when half of those under attack have left, the next come in beside the others.
        """
        pixels, coarse, fine, bounds = images
        labels = coarse if self.level == "coarse" else fine
        prepared = self.prepare_in(classifier, network)
        steps = torch.zeros_like(coarse)
        smallest = pixels.new_zeros(len(pixels))  # by `rank`: the value of the iterate that is in `result`
        attacked: tuple[Tensor, ...] = (waiting[:0],)  # rows, pixels, perturbation and memory of images under attack
        while len(waiting) or len(attacked[0]):
            if len(waiting) and 2 * len(attacked[0]) <= size:
                new, waiting = waiting.tensor_split([size - len(attacked[0])])
                x = fast_layout(pixels[new])
                with torch.no_grad():
                    entering = new, x, self.initial(x), *self.start(network, x, labels[new])
                attacked = tuple(map(torch.cat, zip(attacked, entering, strict=True))) if len(attacked[0]) else entering
            rows, x, eta, *memory = attacked
            last = steps[rows] == self.iterations
            graph = not last.all()
            at = self.evaluate_at(network, prepared, x, eta, tuple(memory), graph=graph, coarse=classifier.coarse)
            if bounds is not None:
                at = replace(at, bounds=bounds[rows])
            if watch is not None:
                watch(at)
            flipped, success = self.outcome(classifier, network, at, coarse[rows], fine[rows])
            if not self.tests_first:
                untouched = steps[rows] == 0
                flipped, success = flipped & ~untouched, success & ~untouched
            value = self.rank(at, tuple(memory))
            if value is None:
                leaving = flipped if self.stops_at_flip else success
                leaving = leaving if self.stops_early else torch.zeros_like(leaving)
                better = leaving | last
            else:  # all images stay for K steps; of each its best iterate is returned: fooled first, then by value
                leaving, better = torch.zeros_like(success), steps[rows] == 0
                fooled, less = result.fooled[rows], value < smallest[rows]
                better |= (success & ~fooled) | ((success == fooled) & less)
                smallest[rows[better]] = value[better]
            kept = rows[better]
            result.perturbation[kept], result.fooled[kept] = eta[better], success[better]
            result.iterations[kept] = steps[kept]
            stay = (~(leaving | last)).nonzero().flatten()
            bar.update(len(rows) - len(stay))
            rows, x, eta, *memory = take_rows(attacked, stay)
            if len(rows):
                with torch.enable_grad():
                    moved, (*memory,) = self.step(at.select(stay), tuple(memory))
                steps[rows] += 1
                if (steps[rows] == 1).all() and torch.equal(moved, eta):
                    warnings.warn(
                        f"{type(self).__name__}: the first step moved none of {len(rows)} images, for their gradient "
                        "is zero; c2f_lrp.attacks.preflight says more",
                        stacklevel=2,
                    )
                eta = moved
            attacked = rows, x, eta, *memory

    def evaluate_at(
        self,
        network: nn.Module,
        prepared,
        pixels: Tensor,
        perturbation: Tensor,
        memory: tuple[Tensor, ...],
        *,
        graph: bool,
        coarse: nn.Module | None = None,
    ) -> Iterate:
        """The iterate at pixels + perturbation, both (N, 3, H, W). memory: what the step will be given.

        graph: keep what the gradient of a step needs. coarse: the coarse network, asked where steps need its label.
        """
        inputs = fast_layout(pixels + perturbation)
        with torch.set_grad_enabled(graph and self.uses_logits):
            logits = finite(network(inputs.requires_grad_(graph and self.uses_logits)))
        rows = torch.arange(len(pixels), device=pixels.device)
        label = None
        if coarse is not None and self.needs_coarse:
            with torch.no_grad():
                label = finite(coarse(inputs)).argmax(1)
        return Iterate(prepared, pixels, perturbation, logits, label, inputs, rows)

    @torch.no_grad()
    def outcome(
        self, classifier: CoarseToFine, network: nn.Module, at: Iterate, coarse: Tensor, fine: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Two bools (N,): the label of this level changed; and it did so in the sense of `AttackResult.fooled`."""
        if self.level == "coarse":
            changed = at.logits.argmax(1) != coarse
            return changed, changed
        fine_changed = at.logits.argmax(1) != fine
        if at.coarse is not None:
            return fine_changed, fine_changed & (at.coarse == coarse)
        # The coarse network is asked about those images only whose fine label has changed.
        success = fine_changed.clone()
        if fine_changed.any():  # some networks cannot take an empty batch
            success[fine_changed] = finite(classifier.coarse(at.inputs[fine_changed])).argmax(1) == coarse[fine_changed]
        return fine_changed, success


@dataclass(frozen=True, kw_only=True)
class BoundedAttack(Attack):
    """An attack with |eta| <= eps, in pixel units.

    random_start: begin at noise, uniform in [-eps, eps], instead of eta = 0. It depends on `seed` and on the image
    alone, not on the images around it.
    """

    eps: float
    random_start: bool = False
    seed: int = 0

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.eps < float("inf"):
            raise ValueError(f"eps is {self.eps}; give a bound in pixel units above 0, such as 10 on the 0..255 scale")

    def initial(self, pixels: Tensor) -> Tensor:
        if not self.random_start:
            return super().initial(pixels)
        noise = torch.empty(pixels.shape, dtype=torch.float64, device="cpu")  # the same on every device
        for row, image in enumerate(pixels):
            content = zlib.crc32(image.float().contiguous().cpu().numpy().tobytes(), self.seed)
            generator = torch.Generator("cpu").manual_seed(content)  # which reads 32 bits
            noise[row].uniform_(-self.eps, self.eps, generator=generator)
        return clip(noise.to(pixels), pixels, self.eps)


def check_kind(name: str, value, kind, attack: str) -> None:
    """Refuse a value that is not of a setting's type, such as float or float | None; a whole number is a float, too."""
    kinds = get_args(kind) or (kind,)
    if not all(isinstance(each, type) for each in kinds):
        return  # something richer, or the name of a type, where annotations are not evaluated
    numbers = {int: Integral, float: Real}  # NumPy's count, too
    allowed = tuple(numbers.get(each, each) for each in kinds)
    if not (bool in kinds if isinstance(value, bool) else isinstance(value, allowed)):
        raise ValueError(f"{name} is {value!r}; {attack} takes {getattr(kind, '__name__', kind)}")


def take_rows(tensors: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    """The given rows (in rising order) of every tensor, images as the device convolves fastest."""
    if len(rows) == len(tensors[0]):
        return tensors
    return tuple(fast_layout(tensor[rows]) for tensor in tensors)


def largest_entry(gradient: Tensor) -> Tensor:
    """max |g| of each image's gradient (N, 3, H, W), as (N, 1, 1, 1) to divide by; 1 where all is zero and stays so."""
    largest = gradient.abs().amax((1, 2, 3), keepdim=True)
    return largest.where(largest > 0, 1)


def clip(perturbation: Tensor, pixels: Tensor, eps: float | Tensor | None = None) -> Tensor:
    """The perturbation within [-eps, eps] and, added to the pixels, within [0, 255]: both exactly, also in float32."""
    inside = torch.clamp(perturbation, -pixels, 255 - pixels)
    return inside if eps is None else inside.clamp_(-eps, eps)


@whole_float32()
def input_gradient(objective, attacked: Tensor) -> Tensor:
    """Gradient (N, 3, H, W) of the per-image values objective(attacked), (N,), at the attacked images."""
    with torch.enable_grad():
        attacked = attacked.detach().requires_grad_()
        return torch.autograd.grad(objective(attacked).sum(), attacked)[0]
