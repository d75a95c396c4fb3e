"""How one network is trained: from a seed, from another network's features, or fine-tuned from pretrained weights."""

import json
import math
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import CutMix
from tqdm.auto import tqdm

from c2f_lrp.classifier import Classifier
from c2f_lrp.datasets.imagenet import Crops, Photographs
from c2f_lrp.files import atomic_write
from c2f_lrp.networks import fold_batch_norm, load_network, vgg16

BATCH = 128
MAX_LEARNING_RATE = {"scratch": 0.05, "features": 0.02}  # by what a network starts from
FINISH_LEARNING_RATE = 0.005
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
CUTMIX = 0.5  # share of the steps

# Fine-tuning: a tenth of the rate that torchvision's vgg16 was trained with, so that its features stay, and that rate
# itself for the last layer, which is new; both fall to zero along half a cosine.
FINE_TUNE_BATCH = 128
FINE_TUNE_LEARNING_RATE = {"pretrained": 1e-3, "last": 1e-2}
SAVE_EVERY = 1000  # steps; a state of VGG-16 has 1.1 GB


@dataclass(frozen=True)
class Job:
    """What one network learns and where it is kept meanwhile.

    settings  arguments of `vgg16`
    data      uint8 pixels (N, 3, H, W), or photographs; labels: (N,)
    state     the file that holds its state after every epoch; run: what must be the same for it to be gone on from
    start     the file of the network that it starts from: another's state, or pretrained weights when it is fine-tuned
    """

    settings: dict
    data: Tensor | Photographs
    labels: Tensor
    state: Path
    run: dict
    start: Path | None
    fine_tuned: bool = False

    def train(self, device: str, until: int | None = None) -> Classifier:
        """Go on from the state; `until`: stop when so many epochs are done."""
        common: dict[str, Any] = dict(state=self.state, run=self.run, device=device, until=until)
        if self.fine_tuned:
            assert self.start is not None  # pretrained weights
            return fine_tune(self.start, self.settings, self.data, self.labels, **common)
        return train_network(self.settings, self.data, self.labels, features=self.start, **common)

    def epochs_done(self) -> int:
        """By an earlier run with the same settings."""
        if not self.state.is_file():
            return 0
        state = read_state(self.state)
        return state["epoch"] if state["run"] == self.run else 0


def finished(path: Path, job: Job) -> Classifier | None:
    """The network of an earlier run with the same settings, if it was trained to its end."""
    if not (path.is_file() and job.state.is_file()):
        return None
    done = read_state(job.state)
    return load_network(path) if done["run"] == job.run and done["epoch"] == last_epoch(job.run) else None


def last_epoch(run: dict) -> int:
    return run["epochs"] + run["finish_epochs"]


def train_network(
    settings: dict,
    pixels: Tensor,
    labels: Tensor,
    *,
    state: Path,
    run: dict,
    features: Path | None,
    device: str,
    until: int | None = None,
) -> Classifier:
    """Train one VGG-16 on uint8 pixels (N, 3, H, W); its state after every epoch lies in the file `state`.

    `features` is the state of a trained network whose layers, but for the last one, this one starts from. `until`: stop
    when so many epochs are done.
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
    optimizer = torch.optim.SGD(network.parameters(), rate, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    steps = max(1, len(pixels) // BATCH)
    schedule = OneCycleLR(optimizer, rate, total_steps=epochs * steps + 1)
    first, seconds = resume(state, run, network, optimizer, schedule)
    cutmix = CutMix(num_classes=settings["n_classes"])
    started = time.monotonic() - seconds
    progress = tqdm(total=last_epoch(run), initial=first, desc=state.stem, unit="epoch", leave=False)
    for epoch in range(first, min(until or last_epoch(run), last_epoch(run))):
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
            if run["cutmix"] and not finishing and torch.rand(()) < run["cutmix"]:
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


def fine_tune(
    pretrained: Path,
    settings: dict,
    photographs: Photographs,
    labels: Tensor,
    *,
    state: Path,
    run: dict,
    device: str,
    until: int | None = None,
) -> Classifier:
    """One VGG-16 from the weights in `pretrained`, but for the last layer, on photographs streamed from disk.

    Its state lies in the file `state` after every epoch and every SAVE_EVERY steps, and a run goes on from there as if
    it had not been interrupted; `until` ends it when so many epochs are done.
    Half-width arithmetic is bfloat16, which needs no scaling of the loss.
    Raises ValueError where the pretrained network has another layout or the loss is no longer finite.
    """
    epochs, seed = run["epochs"], run["seed"]
    torch.manual_seed(seed)
    network, known = vgg16(**settings), load_network(pretrained)
    of_profile, found = ({**one.settings, "n_classes": None, "dropout": None} for one in (network, known))
    if of_profile != found:
        raise ValueError(f"{pretrained} holds a network of {found}; networks of {of_profile} cannot start from it")
    last = network.layers[-1]
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    network.layers[:-1].load_state_dict(known.layers[:-1].state_dict())
    network.to(device, memory_format=torch.channels_last).train()
    rates = FINE_TUNE_LEARNING_RATE
    groups = [
        {"params": list(network.layers[:-1].parameters()), "lr": rates["pretrained"]},
        {"params": list(last.parameters()), "lr": rates["last"]},
    ]
    optimizer = torch.optim.SGD(groups, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True)
    batch = min(FINE_TUNE_BATCH, len(photographs))
    steps = len(photographs) // batch
    done = restore(state, run, network, optimizer) or dict(epoch=0, step=0, seconds=0.0)
    started = time.monotonic() - done["seconds"]
    bar = tqdm(total=epochs * steps, initial=done["epoch"] * steps + done["step"], desc=state.stem, leave=False)
    for epoch in range(done["epoch"], min(until or epochs, epochs)):
        first = done["step"] if epoch == done["epoch"] else 0
        order = torch.randperm(len(photographs), generator=torch.Generator().manual_seed(seed * 1000 + epoch))
        loader = DataLoader(
            Crops(photographs, labels, seed * 1000 + epoch),
            batch_sampler=order[first * batch : steps * batch].view(-1, batch).tolist(),
            num_workers=photographs.processes,
            pin_memory=device != "cpu",
        )
        for step, (pixels, targets) in enumerate(loader, start=first):
            at = epoch * steps + step
            torch.manual_seed(seed + at)  # dropout
            for group, rate in zip(optimizer.param_groups, rates.values(), strict=True):
                group["lr"] = rate * (1 + math.cos(math.pi * at / (epochs * steps))) / 2
            pixels = pixels.to(device, non_blocking=True).float().contiguous(memory_format=torch.channels_last)
            with torch.autocast(device, torch.bfloat16, enabled=fast_bfloat16(device)):
                loss = F.cross_entropy(
                    network(pixels), targets.to(device, non_blocking=True), label_smoothing=run["label_smoothing"]
                )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            bar.update()
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                if not loss.isfinite():
                    raise ValueError(f"the loss of {state.stem} is {loss.item()} at step {at}; try other photographs")
                ended = step + 1 == steps
                progress = dict(epoch=epoch + ended, step=0 if ended else step + 1, seconds=time.monotonic() - started)
                save_state(state, dict(run=run, **progress), network, optimizer)
                bar.set_postfix(loss=f"{loss.item():.3f}")
    return network.to("cpu", memory_format=torch.contiguous_format).eval()


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
def accuracy(
    network: nn.Module, pixels: Tensor | Photographs, labels: Tensor, device: str = "cpu", batch_size: int = 500
) -> float:
    """Share of uint8 images (N, 3, H, W), or of photographs, whose label the network gets right."""
    network = network.to(device)
    right = [
        (network(batch.to(device).float()).argmax(1).cpu() == label).sum().item()
        for batch, label in zip(pixels.split(batch_size), labels.split(batch_size), strict=True)
    ]
    return sum(right) / len(labels)


def read_state(path: Path) -> dict:
    """What a training state says of itself: the settings of its run, epochs done, seconds they took.

    Raises ValueError for a file that is none.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {})["state"])
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is no training state, or a damaged one ({error}); remove it to train from the start"
        ) from error


def save_state(path: Path, state: dict, network: nn.Module, optimizer: torch.optim.SGD) -> None:
    tensors = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    for name, parameter in network.named_parameters():
        tensors[f"momentum.{name}"] = optimizer.state[parameter]["momentum_buffer"].contiguous()
    write_state(path, state, tensors)


def write_state(path: Path, state: dict, tensors: dict[str, Tensor]) -> None:
    with atomic_write(path) as part:
        try:
            save_file(tensors, part, metadata={"state": json.dumps(state)})
        except SafetensorError as error:  # what a full disk becomes here
            raise OSError(str(error)) from error


def saved_network(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The network's part of a training state's tensors."""
    return {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}


def restore(path: Path, run: dict, network: nn.Module, optimizer: torch.optim.SGD) -> dict | None:
    """Put network and momentum where an interrupted run with the same settings left them; returns that run's state.

    None, and nothing changed, where there is nothing to go on from.
    """
    state = read_state(path) if path.is_file() else None
    if state is None or state["run"] != run:
        return None
    tensors = load_file(path)
    if not tensors:  # of a network that was finished: see `train`
        return None
    network.load_state_dict(saved_network(tensors))
    for name, parameter in network.named_parameters():
        optimizer.state[parameter]["momentum_buffer"] = tensors[f"momentum.{name}"].to(parameter.device)
    return state


def resume(
    path: Path, run: dict, network: nn.Module, optimizer: torch.optim.SGD, schedule: OneCycleLR
) -> tuple[int, float]:
    """Put network, momentum and learning rate where an interrupted run left them.

    Returns the number of epochs done and the seconds they took; (0, 0) where there is nothing to go on from.
    """
    state = restore(path, run, network, optimizer)
    if state is None:
        return 0, 0.0
    with warnings.catch_warnings():
        # The scheduler warns that the optimizer has not stepped; it has, in the run that was interrupted.
        warnings.simplefilter("ignore", UserWarning)
        for _ in range(min(state["epoch"], run["epochs"]) * max(1, run["images"] // BATCH)):
            schedule.step()
    return state["epoch"], state["seconds"]
