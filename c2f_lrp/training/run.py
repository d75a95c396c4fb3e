"""Training of one coarse and M fine networks from a seed, resumable after every epoch.

The paper prints no training settings; these are ours: SGD with Nesterov momentum and a one-cycle learning rate
(Smith and Topin 2019), label smoothing in one profile, random flips, affine warps and lighting. The coarse network
learns first; each fine network starts from its features, so that a few hundred images of one coarse class suffice.
Where a profile has feature_epochs, a flat network learns all fine classes before that, in half of its steps from images
cut together (CutMix, Yun et al. 2019), and all nine start from its features: fine labels tell more than coarse ones.
A coarse network wider than the fine ones starts from a flat network of its own width, which learns from images cut
together in every step. CutMix goes on in half of the coarse network's steps, or it learns its photographs by heart.
Batch normalisation and dropout are used while training; the former is folded away before the weights are written.
Photographs get a few last epochs without warps and lighting, at a small learning rate: the network then sees objects at
the size they have when it is used (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").

At full size (`fine_tune`, profile imagenet) all nine networks start from torchvision's vgg16 instead, and photographs
are streamed from disk. Mind that those weights were learned from all of ILSVRC2012's training photographs, so also from
the fifth that the split holds out: accuracies on it flatter the networks.
"""

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from c2f_lrp.checkpoints import checkpoints_table, read_checkpoints, write_checkpoints
from c2f_lrp.datasets import Images
from c2f_lrp.datasets.imagenet import Photographs
from c2f_lrp.files import alone, atomic_write, writable_folder
from c2f_lrp.files import sha256 as sha256_of
from c2f_lrp.networks import load_network, network_file, save_network
from c2f_lrp.profiles import Profile
from c2f_lrp.training.trainer import CUTMIX, Job, accuracy, fast_bfloat16, finished, last_epoch, read_state, write_state


def train(
    profile: Profile,
    training: Images | Photographs,
    validation: Images | Photographs,
    *,
    out: Path | None = None,
    seed: int = 0,
    command: str = "",
    device: str = "cpu",
    pretrained: Path | None = None,
    scheduler: str | None = None,
    hierarchy_csv: Path | None = None,
) -> list[dict]:
    """Train the nine networks of a profile; write their weights and a row each in checkpoints.csv; return the rows.

    Weights and rows go into the folder `out`, by default the profile's own; rows of weights inside the package go
    into data_manifests/checkpoints.csv. A run that was interrupted goes on where it stopped: finished networks are
    kept when their settings are the same, the unfinished one continues after its last whole epoch.

    Profiles whose networks are fine-tuned take `Photographs`, and start from the weight file `pretrained`.
    scheduler: the address of a Dask scheduler, on whose workers the networks are then trained, side by side where none
    waits for another; on their GPU where they have one. hierarchy_csv: the classes of a profile without a manifest; a
    copy stays beside the weights.

    Raises OSError where another process trains in the same folder.
    """
    folder = writable_folder(out or profile.weights)
    with alone(folder / ".lock", f"trains in {folder}"):
        if hierarchy_csv is not None:
            with atomic_write(folder / "hierarchy.csv") as part:
                shutil.copyfile(hierarchy_csv, part)
        hierarchy = profile.hierarchy(out)
        table = checkpoints_table(profile, out)
        size = dict(hidden=profile.hidden, image_size=profile.image_size, dropout=profile.dropout)
        common: dict[str, Any] = dict(
            seed=seed, label_smoothing=profile.label_smoothing, finish_epochs=profile.finish_epochs
        )
        fine_tuned = profile.networks == "fine-tuned"
        # The states of the networks whose features the coarse and the fine networks start from.
        features: dict[str, Path | None] = dict(coarse=None, fine=None)

        def side_by_side(jobs: list[Job]) -> None:
            """What is not finished, on the workers. Here nothing is left to do then but to read the states."""
            if scheduler is not None and jobs:
                from c2f_lrp.training.on_cluster import train_on_cluster  # Dask is an extra

                train_on_cluster(scheduler, jobs)

        if profile.feature_epochs:
            assert isinstance(training, Images)  # photographs that stay on disk are for fine-tuning
            starts = torch.tensor(hierarchy.n_fine).cumsum(0) - torch.tensor(hierarchy.n_fine)
            labels = starts[training.coarse] + training.fine

            def flat(name: str, width: int, epochs: int, cutmix: float) -> Job:
                settings = size | dict(width=width, n_classes=sum(hierarchy.n_fine))
                run = settings | common | dict(epochs=epochs, images=len(training), cutmix=cutmix)
                return Job(settings, training.pixels, labels, folder / f"{name}.training", run, start=None)

            flats = dict(fine=flat("features", profile.width, profile.feature_epochs, CUTMIX))
            if profile.coarse_width:
                flats["coarse"] = flat("features_coarse", profile.coarse_width, profile.coarse_feature_epochs, 1.0)
            side_by_side(list(flats.values()))
            for job in flats.values():
                job.train(device)
            features = {level: flats.get(level, flats["fine"]).state for level in features}
        if fine_tuned:
            assert pretrained is not None
            common["pretrained"] = sha256_of(pretrained)
        if profile.manifest is None:
            common["hierarchy"] = sha256_of(profile.manifest_path(out))

        def job_of(fine: int | None) -> Job:
            path = network_file(folder, hierarchy, fine)
            if fine is None:
                epochs, width, n_classes = (
                    profile.coarse_epochs,
                    profile.coarse_width or profile.width,
                    hierarchy.n_coarse,
                )
            else:
                epochs, width, n_classes = profile.fine_epochs, profile.width, hierarchy.n_fine[fine]
            settings = size | dict(width=width, n_classes=n_classes)
            data, labels = labelled(training, fine)
            for split, count in (("training", len(labels)), ("validation", len(labelled(validation, fine)[1]))):
                if not count:
                    raise ValueError(
                        f"the {path.stem} network has no {split} images; give more photographs of its class"
                    )
            cutmix = CUTMIX if fine is None and profile.feature_epochs else 0.0
            run = settings | common | dict(epochs=epochs, images=len(data), cutmix=cutmix, fine=fine)
            start = features["coarse" if fine is None else "fine"]
            run["features_of"] = sha256_of(start) if start else None
            start = pretrained if fine_tuned else start
            return Job(settings, data, labels, path.with_suffix(".training"), run, start, fine_tuned)

        rows = []
        software = f"python {platform.python_version()}, torch {version('torch')}, c2f_lrp {version('c2f_lrp')}"
        tasks = [None] + [i for i in range(hierarchy.n_coarse) if hierarchy.n_fine[i] > 1]
        # Those that start from the coarse network have to wait for it.
        groups = [tasks] if profile.feature_epochs or fine_tuned else [tasks[:1], tasks[1:]]
        progress = tqdm([(fine, group) for group in groups for fine in group], desc=f"networks of {profile.name}")
        for fine, group in progress:
            path = network_file(folder, hierarchy, fine)
            if fine == group[0]:
                jobs = [job_of(each) for each in group] if scheduler is not None else []
                side_by_side([each for each in jobs if finished(each.state.with_suffix(path.suffix), each) is None])
            job = job_of(fine)
            settings, run, state = job.settings, job.run, job.state
            held_out, held_out_labels = labelled(validation, fine)
            network = finished(path, job)
            if network is None:
                network = job.train(device)
            sha256 = save_network(network, path)
            if fine_tuned:  # nothing starts from it any more, and nine of them are 10 GB
                write_state(state, read_state(state), {})
            if fine is None and not profile.feature_epochs and not fine_tuned:
                features["fine"] = state  # the coarse network comes first
            # The accuracy reported is that of the weights as stored, after rounding to half precision.
            batch = max(1, 500 * 64**2 // profile.image_size**2)  # 500 at 64x64; larger images take more memory each
            score = accuracy(load_network(path, sha256), held_out, held_out_labels, device, batch)
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
                    training_images=len(job.labels),
                    epochs=last_epoch(run),
                    seed=seed,
                    seconds=round(read_state(state)["seconds"]),
                    command=command,
                    versions=software + (", bfloat16" if fast_bfloat16(device) else ""),
                )
            )
            write_checkpoints(table, profile.name, rows)
        return rows


def labelled(images: Images | Photographs, fine: int | None) -> tuple[Tensor | Photographs, Tensor]:
    """Pixels (or photographs) and labels that one network learns: all images, or those of coarse class `fine`."""
    chosen = images if fine is None else images[images.coarse == fine]
    labels = chosen.coarse if fine is None else chosen.fine
    return (chosen if isinstance(chosen, Photographs) else chosen.pixels), labels
