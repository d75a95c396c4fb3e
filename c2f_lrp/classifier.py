"""Equations (1) and (2): one coarse network, one fine network per coarse class, and the routing between them.

VGG-16's layout is Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition"
(ICLR 2015), configuration D. Batch normalisation is used while training only and folded into the other layers
afterwards, so that what is attacked and explained is the plain VGG-16 of the paper.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from c2f_lrp.files import sha256 as sha256_of
from c2f_lrp.files import whole
from c2f_lrp.hierarchy import Hierarchy

# Channels of VGG-16's convolutions as multiples of the first layer's width (64 in the paper); "M" is a max pooling.
VGG16 = (1, 1, "M", 2, 2, "M", 4, 4, 4, "M", 8, 8, 8, "M", 8, 8, 8, "M")

# Mean and standard deviation of ImageNet's training pixels, in 0..255 units.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


class Classifier(nn.Module):
    """Pixels (N, 3, H, W) in [0, 255] -> logits (N, M). Normalises inside.

    `layers` starts at the normalised image: one `nn.Sequential` (whose relevance is quickest) or any other module.
    `settings` are the arguments of `vgg16` that built it, kept so that a weight file describes itself.
    """

    def __init__(self, layers: nn.Module, settings: dict | None = None):
        super().__init__()
        self.layers = layers
        self.settings = settings or {}
        self.register_buffer("mean", torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(PIXEL_STD).view(1, 3, 1, 1), persistent=False)

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


class Slice(nn.Module):
    """Some of the logits: (N, K) -> (N, len(indices)). A fine network cut out of a flat one."""

    def __init__(self, indices: tuple[int, ...]):
        super().__init__()
        self.register_buffer("indices", torch.tensor(indices), persistent=False)

    def forward(self, logits: Tensor) -> Tensor:
        return logits.index_select(1, self.indices)

    def mean(self, logits: Tensor, values: Tensor) -> Tensor:
        """As in GroupLogSumExp, of groups with one member."""
        return self(values)


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


def vgg16(
    n_classes: int,
    *,
    width: int = 64,
    hidden: int = 4096,
    image_size: int = 224,
    dropout: float = 0.5,
    batch_norm: bool = False,
) -> Classifier:
    """VGG-16 with `width` channels in its first convolution (the paper: 64) and `hidden` units in its linear layers.

    Five poolings leave image_size/32 squared positions, 7x7 in the paper and 2x2 at 64x64.
    """
    if image_size % 32:
        raise ValueError(f"image_size is {image_size}; VGG-16's five poolings need a multiple of 32, such as 64 or 224")
    settings = dict(
        n_classes=n_classes,
        width=width,
        hidden=hidden,
        image_size=image_size,
        dropout=dropout,
        batch_norm=batch_norm,
    )
    layers: list[nn.Module] = []
    channels = 3
    for multiple in VGG16:
        if multiple == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, channels := width * multiple, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(channels))
        layers.append(nn.ReLU())
    layers.append(nn.Flatten())
    for inputs in (channels * (image_size // 32) ** 2, hidden):
        layers.append(nn.Linear(inputs, hidden))
        # Here too: without it a narrow network may learn one class as "no hidden unit fires". Its images would then
        # have no gradient and no relevance, and no attack could move them.
        if batch_norm:
            layers.append(nn.BatchNorm1d(hidden))
        layers += [nn.ReLU(), nn.Dropout(dropout)]
    layers.append(nn.Linear(hidden, n_classes))
    return Classifier(nn.Sequential(*layers), settings)


def fold_batch_norm(classifier: Classifier) -> Classifier:
    """The same function in eval mode without batch normalisation: a copy whose other layers absorbed it."""
    folded: list[nn.Module] = []
    for layer in classifier.eval().layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer)
        elif isinstance(layer, nn.BatchNorm1d):
            folded[-1] = fuse_linear_bn_eval(folded[-1], layer)
        else:
            folded.append(layer)
    return Classifier(nn.Sequential(*folded), {**classifier.settings, "batch_norm": False}).eval()


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

        Raises ValueError where the hierarchy asks for an output that the model does not have.
        """
        last = [layer for layer in model.layers.modules() if isinstance(layer, nn.Linear)][-1:]
        largest = max(max(group) for group in hierarchy.class_indices)
        if last and largest >= last[0].out_features:
            raise ValueError(
                f"the hierarchy has a class at output {largest}, the model {last[0].out_features} outputs; give the "
                "model that its class indices were written for"
            )
        # A sequence stays one sequence, so that relevance need not take the slower way through zennit.
        layers = list(model.layers) if isinstance(model.layers, nn.Sequential) else [model.layers]

        def ending_in(layer: nn.Module) -> Classifier:
            network = Classifier(nn.Sequential(*layers, layer))
            network.mean, network.std = model.mean, model.std
            return network.train(model.training)

        fine = [ending_in(Slice(group)) if len(group) > 1 else SingleClass() for group in hierarchy.class_indices]
        classifier = cls(ending_in(GroupLogSumExp(hierarchy.class_indices)), fine, hierarchy)
        return classifier.to(model.mean.device).train(model.training)

    @torch.no_grad()
    def predict(self, pixels: Tensor, batch_size: int = 256) -> tuple[Tensor, Tensor]:
        """Coarse labels (N,) by eq. (1) and fine labels (N,) by eq. (2), the fine network being the one C picked.

        Raises ValueError for logits that are not finite.
        """
        coarse = torch.cat([finite(self.coarse(batch)).argmax(1) for batch in pixels.split(batch_size)])
        return coarse, self.predict_fine(pixels, coarse, batch_size)

    @torch.no_grad()
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


def network_file(folder: Path, hierarchy: Hierarchy, fine: int | None) -> Path:
    """Where the coarse network (`fine` None) or the fine network of coarse class `fine` lies in a weight folder."""
    name = "coarse" if fine is None else f"fine_{hierarchy.coarse_names[fine].replace(' ', '_')}"
    return folder / f"{name}.safetensors"


def save_network(classifier: Classifier, path: Path, dtype: torch.dtype = torch.float16) -> str:
    """Write weights, by default in half precision (they are read to single), with their settings; returns the SHA-256.

    Written to a temporary name and renamed, so that a file under its own name is always whole.
    """
    tensors = {name: value.to(dtype).contiguous() for name, value in classifier.state_dict().items()}
    content = save(tensors, metadata={"vgg16": json.dumps(classifier.settings)})
    with whole(path) as part:
        part.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_network(path: Path, sha256: str | None = None) -> Classifier:
    """A classifier in eval mode from a safetensors file, which must have the given checksum.

    Raises FileNotFoundError where there is no file, ValueError where its checksum or its content is wrong.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; train them with: c2f-lrp train --profile {path.parent.name}")
    found = sha256_of(path)
    if sha256 is not None and found != sha256:
        raise ValueError(
            f"{path} has SHA-256 {found}, but {sha256} is recorded for it; the file is damaged or not the one "
            "recorded: restore it, or train again with c2f-lrp train"
        )
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads((file.metadata() or {})["vgg16"])
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        classifier = vgg16(**settings)
        classifier.load_state_dict(tensors)
    # The last two: settings of another network than the one whose weights they lie with.
    except (SafetensorError, KeyError, json.JSONDecodeError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is not a safetensors file written by c2f-lrp train ({reason}); weights are never read from pickles"
        ) from error
    return classifier.eval()
