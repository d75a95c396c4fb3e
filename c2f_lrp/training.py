"""Training of one coarse and M fine networks from a seed, resumable after every epoch.

The paper prints no training settings; these are ours: SGD with Nesterov momentum and a one-cycle learning rate
(Smith and Topin 2019), label smoothing in one profile, random flips, affine warps and lighting. The coarse network
learns first; each fine network starts from its features, so that a few hundred images of one coarse class suffice.
Where a profile has feature_epochs, a flat network learns all fine classes before that, in half of its steps from images
cut together (CutMix, Yun et al. 2019), and all nine start from its features: fine labels tell more than coarse ones.
Batch normalisation and dropout are used while training; the former is folded away before the weights are written.
Photographs get a few last epochs without warps and lighting, at a small learning rate: the network then sees objects at
the size they have when it is used (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").
"""

import csv
import hashlib
import json
import platform
import time
import warnings
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torchvision.transforms.v2 import CutMix
from tqdm.auto import tqdm

from c2f_lrp.classifier import Classifier, fold_batch_norm, load_network, network_file, save_network, vgg16
from c2f_lrp.datasets import Images
from c2f_lrp.files import whole, writable_folder
from c2f_lrp.hierarchy import manifest_path
from c2f_lrp.profiles import Profile

BATCH = 128
MAX_LEARNING_RATE = {"scratch": 0.05, "features": 0.02}  # by what a network starts from
FINISH_LEARNING_RATE = 0.005
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4

CHECKPOINT_COLUMNS = (
    "profile,network,file,sha256,classes,accuracy,validation_images,training_images,epochs,seed,seconds,command,versions"
).split(",")


def train(
    profile: Profile,
    training: Images,
    validation: Images,
    *,
    out: Path | None = None,
    seed: int = 0,
    command: str = "",
    device: str = "cpu",
) -> list[dict]:
    """Train the nine networks of a profile; write their weights and a row each in checkpoints.csv; return the rows.

    Weights go into the package and the rows into data_manifests/checkpoints.csv, or both into the folder `out`.
    A run that was interrupted goes on where it stopped: finished networks are kept when their settings are the same,
    the unfinished one continues after its last whole epoch.
    """
    hierarchy = profile.hierarchy()
    folder = writable_folder(out or profile.weights)
    table = checkpoints_table(profile, out)
    size = dict(width=profile.width, hidden=profile.hidden, image_size=profile.image_size, dropout=profile.dropout)
    common = dict(seed=seed, label_smoothing=profile.label_smoothing, finish_epochs=profile.finish_epochs)
    features, features_of = None, None  # the state of the network whose features the next one starts from, and its hash
    if profile.feature_epochs:
        features = folder / "features.training"
        settings = size | dict(n_classes=sum(hierarchy.n_fine))
        run = settings | common | dict(epochs=profile.feature_epochs, images=len(training), cutmix=True)
        starts = torch.tensor(hierarchy.n_fine).cumsum(0) - torch.tensor(hierarchy.n_fine)
        labels = starts[training.coarse] + training.fine
        fit(settings, training.pixels, labels, state=features, run=run, features=None, device=device)
        features_of = hashlib.sha256(features.read_bytes()).hexdigest()
    rows = []
    tasks = [None] + [i for i in range(hierarchy.n_coarse) if hierarchy.n_fine[i] > 1]
    for fine in tqdm(tasks, desc=f"networks of {profile.name}"):
        path = network_file(folder, hierarchy, fine)
        epochs = profile.coarse_epochs if fine is None else profile.fine_epochs
        settings = size | dict(n_classes=hierarchy.n_coarse if fine is None else hierarchy.n_fine[fine])
        data, labels = labelled(training, fine)
        held_out, held_out_labels = labelled(validation, fine)
        for split, count in (("training", len(data)), ("validation", len(held_out))):
            if not count:
                raise ValueError(f"the {path.stem} network has no {split} images; give more photographs of its class")
        state = path.with_suffix(".training")
        run = settings | common | dict(epochs=epochs, images=len(data), cutmix=False, fine=fine)
        run["features_of"] = features_of
        network = finished(path, state, run)
        if network is None:
            network = fit(settings, data, labels, state=state, run=run, features=features, device=device)
        sha256 = save_network(network, path)
        if features is None:
            features, features_of = state, sha256  # those of the coarse network, which comes first
        # The accuracy reported is that of the weights as stored, after rounding to half precision.
        score = accuracy(load_network(path, sha256), held_out, held_out_labels, device=device)
        previous = {row["network"]: row for row in read_checkpoints(table, profile.name)}.get(path.stem)
        if previous is not None and previous["sha256"] == sha256:
            rows.append(previous)
            continue
        rows.append(
            dict(
                profile=profile.name,
                network=path.stem,
                file=path.name,
                sha256=sha256,
                classes=settings["n_classes"],
                accuracy=f"{score:.4f}",
                validation_images=len(held_out),
                training_images=len(data),
                epochs=last_epoch(run),
                seed=seed,
                seconds=round(read_state(state)["seconds"]),
                command=command,
                versions=f"python {platform.python_version()}, torch {version('torch')}, c2f_lrp {version('c2f_lrp')}"
                + (", bfloat16" if fast_bfloat16(device) else ""),
            )
        )
        write_checkpoints(table, profile.name, rows)
    return rows


def labelled(images: Images, fine: int | None) -> tuple[Tensor, Tensor]:
    """Pixels and labels that one network learns: all images, or those of coarse class `fine`."""
    if fine is None:
        return images.pixels, images.coarse
    rows = images.coarse == fine
    return images.pixels[rows], images.fine[rows]


def finished(path: Path, state: Path, run: dict) -> Classifier | None:
    """The network of an earlier run with the same settings, if it was trained to its end."""
    if not (path.is_file() and state.is_file()):
        return None
    done = read_state(state)
    return load_network(path) if done["run"] == run and done["epoch"] == last_epoch(run) else None


def last_epoch(run: dict) -> int:
    return run["epochs"] + run["finish_epochs"]


def fit(
    settings: dict, pixels: Tensor, labels: Tensor, *, state: Path, run: dict, features: Path | None, device: str
) -> Classifier:
    """Train one VGG-16 on uint8 pixels (N, 3, H, W); its state after every epoch lies in the file `state`.

    `features` is the state of a trained network whose layers, but for the last one, this one starts from.
    """
    epochs, seed = run["epochs"], run["seed"]
    torch.manual_seed(seed)
    network = vgg16(**settings, batch_norm=True).to(device, memory_format=torch.channels_last)
    for layer in network.layers:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    if features is not None:
        last = f"layers.{len(network.layers) - 1}."
        network.load_state_dict(
            {name: value for name, value in saved_network(load_file(features)).items() if not name.startswith(last)},
            strict=False,
        )
    rate = MAX_LEARNING_RATE["scratch" if features is None else "features"]
    optimizer = torch.optim.SGD(
        network.parameters(), rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    steps = max(1, len(pixels) // BATCH)
    schedule = OneCycleLR(optimizer, rate, total_steps=epochs * steps + 1)
    first, seconds = resume(state, run, network, optimizer, schedule)
    cutmix = CutMix(num_classes=settings["n_classes"])
    started = time.monotonic() - seconds
    progress = tqdm(total=last_epoch(run), initial=first, desc=state.stem, unit="epoch", leave=False)
    for epoch in range(first, last_epoch(run)):
        finishing = epoch >= epochs
        if finishing:
            left = (last_epoch(run) - epoch) / run["finish_epochs"]
            optimizer.param_groups[0]["lr"] = FINISH_LEARNING_RATE * left
        # Seeded by the epoch, so that a resumed run draws what an uninterrupted one draws.
        torch.manual_seed(seed * 1000 + epoch)
        network.train()
        order = torch.randperm(len(pixels))
        for step in range(steps):
            batch = order[step * BATCH : (step + 1) * BATCH]
            inputs, targets = pixels[batch].to(device), labels[batch].to(device)
            inputs = mirror(inputs) if finishing else augment(inputs)
            if run["cutmix"] and not finishing and torch.rand(()) < 0.5:
                inputs, targets = cutmix(inputs, targets)
            with torch.autocast(device, torch.bfloat16, enabled=fast_bfloat16(device)):
                logits = network(inputs.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(logits, targets, label_smoothing=run["label_smoothing"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if not finishing:
                schedule.step()
        save_state(state, dict(run=run, epoch=epoch + 1, seconds=time.monotonic() - started), network, optimizer)
        progress.set_postfix(loss=f"{loss.item():.3f}")
        progress.update()
    return fold_batch_norm(network.cpu())


def fast_bfloat16(device: str) -> bool:
    """Whether half-width arithmetic is faster than single precision: any recent GPU, CPUs with instructions for it."""
    supported = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
    return device != "cpu" or any(getattr(torch.cpu, name, lambda: False)() for name in supported)


def mirror(pixels: Tensor) -> Tensor:
    """Randomly mirrored copies: uint8 (N, 3, H, W) -> float32 in [0, 255]."""
    flip = torch.rand(len(pixels), 1, 1, 1, device=pixels.device) < 0.5
    return torch.where(flip, pixels.flip(3), pixels).float()


def augment(pixels: Tensor) -> Tensor:
    """Randomly mirrored, scaled, shifted, turned and relit copies: uint8 (N, 3, H, W) -> float32 in [0, 255]."""
    n = len(pixels)

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(n, device=pixels.device).uniform_(low, high)

    scale, angle = uniform(0.75, 1.15), uniform(-0.15, 0.15)
    mirror = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0)
    cos, sin = scale * angle.cos(), scale * angle.sin()
    rows = [cos * mirror, -sin, uniform(-0.2, 0.2), sin * mirror, cos, uniform(-0.2, 0.2)]
    grid = F.affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(pixels.shape), align_corners=False)
    warped = F.grid_sample(pixels.float(), grid, padding_mode="reflection", align_corners=False)
    mean = warped.mean((1, 2, 3), keepdim=True)
    contrast, brightness = uniform(0.7, 1.3).view(n, 1, 1, 1), uniform(-30, 30).view(n, 1, 1, 1)
    return ((warped - mean) * contrast + mean + brightness).clamp(0, 255)


@torch.no_grad()
def accuracy(network: nn.Module, pixels: Tensor, labels: Tensor, device: str = "cpu") -> float:
    """Share of uint8 images (N, 3, H, W) whose label the network gets right."""
    network = network.to(device)
    right = [
        (network(batch.to(device).float()).argmax(1).cpu() == label).sum().item()
        for batch, label in zip(pixels.split(500), labels.split(500), strict=True)
    ]
    return sum(right) / len(labels)


def read_state(path: Path) -> dict:
    """What a training state says of itself: the settings of its run, epochs done, seconds they took."""
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["state"])


def save_state(path: Path, state: dict, network: nn.Module, optimizer: torch.optim.SGD) -> None:
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        tensors[f"momentum.{name}"] = optimizer.state[parameter]["momentum_buffer"].contiguous()
    with whole(path) as part:
        try:
            save_file(tensors, part, metadata={"state": json.dumps(state)})
        except SafetensorError as error:  # what a full disk becomes here
            raise OSError(str(error)) from error


def saved_network(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's part of a training state's tensors."""
    return {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}


def resume(
    path: Path, run: dict, network: nn.Module, optimizer: torch.optim.SGD, schedule: OneCycleLR
) -> tuple[int, float]:
    """Put network, momentum and learning rate where an interrupted run with the same settings left them.

    Returns the number of epochs done and the seconds they took; (0, 0) where there is nothing to go on from.
    """
    if not path.is_file():
        return 0, 0.0
    state = read_state(path)
    if state["run"] != run:
        return 0, 0.0
    tensors = load_file(path)
    network.load_state_dict(saved_network(tensors))
    for name, parameter in network.named_parameters():
        optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(parameter.device)
    with warnings.catch_warnings():
        # The scheduler warns that the optimizer has not stepped; it has, in the run that was interrupted.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(min(state["epoch"], run["epochs"]) * max(1, run["images"] // BATCH)):
            schedule.step()
    return state["epoch"], state["seconds"]


def checkpoints_table(profile: Profile, folder: Path | None = None) -> Path:
    """The checkpoints.csv of a weight folder, or data_manifests/checkpoints.csv for the package's own weights."""
    return Path(folder or manifest_path(profile.manifest).parent) / "checkpoints.csv"


def read_checkpoints(table: Path, profile: str) -> list[dict]:
    """The rows of one profile in a checkpoints.csv; none where there is no such file."""
    if not table.is_file():
        return []
    with table.open(newline="") as file:
        return [row for row in csv.DictReader(file) if row["profile"] == profile]


def write_checkpoints(table: Path, profile: str, rows: list[dict]) -> None:
    """Replace the rows of one profile, keeping those of the others."""
    others = []
    if table.is_file():
        with table.open(newline="") as file:
            others = [row for row in csv.DictReader(file) if row["profile"] != profile]
    with whole(table) as part, part.open("w", newline="") as file:
        writer = csv.DictWriter(file, CHECKPOINT_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*others, *rows], key=lambda row: row["profile"]))
