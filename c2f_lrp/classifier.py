"""Equations (1) and (2): one coarse network, one fine network per coarse class, and the routing between them."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from c2f_lrp.checks import check_pixels, check_place, hooked
from c2f_lrp.devices import whole_float32
from c2f_lrp.hierarchy import Hierarchy

# Mean and standard deviation of ImageNet's training pixels, in 0..255 units.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Classifier(nn.Module):
    """Pixels (N, 3, H, W) in [0, 255] -> logits (N, M). Normalises inside.

    layers        from the normalised image to the logits: an `nn.Sequential` or any other module
    settings      of the network; "image_size" (pixels a side that it takes) and "n_classes" are checked where given
    mean, std     what pixels are normalised by, in units of 0..255: one number, or one for each colour
    architecture  its name in `c2f_lrp.networks.ARCHITECTURES`, whose function built it from `settings`: with these two
                  a weight file describes itself. None: no weight file can hold it
    """

    def __init__(
        self,
        layers: nn.Module,
        settings: dict | None = None,
        *,
        mean: float | Sequence[float] = PIXEL_MEAN,
        std: float | Sequence[float] = PIXEL_STD,
        architecture: str | None = None,
    ):
        super().__init__()
        self.layers = layers
        self.settings = settings or {}
        self.architecture = architecture
        self.register_buffer("mean", of_colours("mean", mean), persistent=False)
        self.register_buffer("std", of_colours("std", std), persistent=False)

    def normalize(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 255] -> what the first layer sees."""
        return (pixels - self.mean) / self.std

    def forward(self, pixels: Tensor) -> Tensor:
        size = self.settings.get("image_size")
        if size and pixels.shape[-2:] != (size, size):
            height, width = pixels.shape[-2:]
            raise ValueError(f"pixels are {height}x{width}; this network takes {size}x{size}: scale the images first")
        return self.layers(self.normalize(pixels))


class SingleClass(nn.Module):
    """The fine network of a coarse class that has one fine class: its answer is always that class.

    Logits (N, 1), all zero. There is no runner-up label, hence nothing to attack.
    """

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.new_zeros(len(pixels), 1)


def of_colours(name: str, value: float | Sequence[float]) -> Tensor:
    """A mean or std (1, 3, 1, 1) of pixels, from one number or one for each colour. Raises ValueError for others."""
    numbers = torch.as_tensor(value, dtype=torch.float64, device="cpu").flatten()
    fits = len(numbers) in (1, 3) and numbers.isfinite().all() and (name != "std" or (numbers > 0).all())
    if not fits:
        kind = "above 0 " if name == "std" else ""
        raise ValueError(f"{name} is {value}; give one number {kind}or three, in units of 0..255")
    return torch.tensor(numbers.expand(3).tolist()).view(1, 3, 1, 1)


class Slice(nn.Module):
    """Some of the logits: (N, K) -> (N, len(indices)). A fine network cut out of a flat one."""

    def __init__(self, indices: tuple[int, ...]):
        super().__init__()
        self.register_buffer("indices", torch.tensor(indices), persistent=False)
        self.largest = max(indices)

    def forward(self, logits: Tensor) -> Tensor:
        if logits.shape[1] <= self.largest:
            raise ValueError(
                f"the hierarchy has a class at output {self.largest}, the network gives {logits.shape[1]} outputs; "
                "give the network that its class indices were written for"
            )
        return logits.index_select(1, self.indices)

    def mean(self, logits: Tensor, values: Tensor) -> Tensor:
        """As in GroupLogSumExp, of groups with one member."""
        return self(values)

    def spread(self, logits: Tensor, values: Tensor) -> Tensor:
        """As in GroupLogSumExp, of groups with one member."""
        return torch.zeros_like(logits).index_add(1, self.indices, values)


class GroupLogSumExp(nn.Module):
    """log sum_k exp z_k over each group of logits: (N, K) -> (N, M). A coarse network made of a flat one.

    But for a term that all groups share, it is the logarithm of the probability that softmax gives the group.
    """

    def __init__(self, groups: tuple[tuple[int, ...], ...]):
        super().__init__()
        self.slices = nn.ModuleList(Slice(group) for group in groups)

    def forward(self, logits: Tensor) -> Tensor:
        return torch.stack([group(logits).logsumexp(1) for group in self.slices], 1)

    def mean(self, logits: Tensor, values: Tensor) -> Tensor:
        """The mean (N, M) of each group's values (N, K), weighted by the softmax of its logits."""
        return torch.stack([(group(logits).softmax(1) * group(values)).sum(1) for group in self.slices], 1)

    def spread(self, logits: Tensor, values: Tensor) -> Tensor:
        """Each group's value (N, M), shared by its members in proportion to their softmax: the transpose of `mean`."""
        parts = zip(self.slices, values.unbind(1), strict=True)
        return sum(group.spread(logits, group(logits).softmax(1) * value[:, None]) for group, value in parts)


class CoarseToFine(nn.Module):
    """The paper's classifier: C(x) (eq. 1) picks a coarse class, F^C(x)(x) (eq. 2) a fine class inside it.

    `coarse` and every `fine[i]` take pixels (N, 3, H, W) in [0, 255] and give logits.
    """

    def __init__(self, coarse: nn.Module, fine: list[nn.Module], hierarchy: Hierarchy):
        super().__init__()
        if len(fine) != hierarchy.n_coarse:
            raise ValueError(
                f"{len(fine)} fine networks given for {hierarchy.n_coarse} coarse classes; give one for each of "
                f"{', '.join(hierarchy.coarse_names)}"
            )
        wanted = {"coarse network": (coarse, hierarchy.n_coarse)} | {
            f"fine network of {name}": (network, n)
            for name, network, n in zip(hierarchy.coarse_names, fine, hierarchy.n_fine, strict=True)
        }
        for name, (network, n) in wanted.items():
            outputs = getattr(network, "settings", {}).get("n_classes", n)
            if outputs != n:
                raise ValueError(f"the {name} has {outputs} outputs; the hierarchy has {n} classes: train it anew")
        self.coarse = coarse
        self.fine = nn.ModuleList(fine)
        self.hierarchy = hierarchy

    @classmethod
    def from_flat(cls, model: Classifier, hierarchy: Hierarchy) -> "CoarseToFine":
        """Coarse and fine networks made of one flat classifier, without training.

        model: pixels (N, 3, H, W) in [0, 255] -> logits (N, K) over at least the hierarchy's fine classes, of which
        `hierarchy.class_indices[i][j]` says where the j-th of coarse class i stands. The coarse logit of a group is
        the log-sum-exp of its members' logits, a fine network's logits are its members'. Weights are shared with
        `model`, not copied.

        It differs from nine trained networks (the paper's) in that all share every weight: what moves a coarse logit
        moves the fine ones with it, and a fine network was never trained on its own classes alone. Its coarse label
        can differ from the group of the flat model's first label, where several members of another group together
        outweigh that label.

        Raises ValueError where the hierarchy asks for an output that the model does not have: here where the model's
        settings tell their number, else when it is first used. Raises TypeError for a model that may compute something
        besides its layers: a subclass of Classifier, hooks on it, methods of its own.
        """
        if type(model) is not Classifier or hooked(model) or {"forward", "normalize"} & set(vars(model)):
            own = " with hooks or methods of its own" if type(model) is Classifier else ""
            raise TypeError(
                f"the model is a {type(model).__name__}{own}, of which only the layers would be kept; give "
                "Classifier(network, mean=..., std=...), where network does all that is to be done"
            )
        groups = hierarchy.class_indices
        if groups is None:
            raise ValueError("the hierarchy has no class indices, which say what the model's outputs are")
        largest = max(max(group) for group in groups)
        if (outputs := model.settings.get("n_classes", largest + 1)) <= largest:
            raise ValueError(
                f"the hierarchy has a class at output {largest}, the model {outputs} outputs; give the model that its "
                "class indices were written for"
            )
        # A sequence stays one sequence; what may do more than its modules in turn stays whole.
        inner = model.layers
        plain = type(inner) is nn.Sequential and not hooked(inner) and "forward" not in vars(inner)
        layers = list(inner) if plain else [inner]

        # The new networks take the images that the model takes.
        settings = {name: value for name, value in model.settings.items() if name == "image_size"}

        def ending_in(layer: nn.Module) -> Classifier:
            network = Classifier(nn.Sequential(*layers, layer), settings)
            network.mean, network.std = model.mean, model.std
            return network.train(model.training)

        fine = [ending_in(Slice(group)) if len(group) > 1 else SingleClass() for group in groups]
        classifier = cls(ending_in(GroupLogSumExp(groups)), fine, hierarchy)
        return classifier.to(model.mean.device).train(model.training)

    @torch.no_grad()
    @whole_float32()
    def predict(self, pixels: Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """Coarse labels (N,) by eq. (1) and fine labels (N,) by eq. (2), the fine network being the one C picked.

        pixels: (N, 3, H, W) in [0, 255], of the networks' precision and on their device. Raises ValueError for others,
        and for logits that are not finite.
        """
        check_pixels(pixels)
        check_place(self, pixels)
        coarse = torch.cat([finite(self.coarse(batch)).argmax(1) for batch in pixels.split(batch_size)])
        return coarse, self.predict_fine(pixels, coarse, batch_size)

    @torch.no_grad()
    @whole_float32()
    def predict_fine(self, pixels: Tensor, coarse: Tensor, batch_size: int = 256) -> Tensor:
        """Fine labels (N,) by the fine networks of the given coarse labels (N,), wherever C would route the images."""
        fine = torch.empty_like(coarse)
        for label in coarse.unique().tolist():
            rows = (coarse == label).nonzero().squeeze(1)
            for part in rows.split(batch_size):
                fine[part] = finite(self.fine[label](pixels[part])).argmax(1)
        return fine


def finite(logits: Tensor) -> Tensor:
    """The logits, unless one is nan or infinite: their order would mean nothing."""
    if not logits.isfinite().all():
        raise ValueError("the classifier gave logits that are not finite; check its weights and the image values")
    return logits


def level_network(classifier: CoarseToFine, level: str, coarse: int) -> tuple[torch.nn.Module, tuple[str, ...]]:
    """The network that a level attacks for images of a coarse label, and its labels' names."""
    hierarchy = classifier.hierarchy
    if level == "coarse":
        return classifier.coarse, hierarchy.coarse_names
    return classifier.fine[coarse], hierarchy.fine_names[coarse]
