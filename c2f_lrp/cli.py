"""The command c2f-lrp: reproduce, verify, train, attack, data check, book."""

import argparse
import os
import sys
from pathlib import Path

import yaml

from c2f_lrp.profiles import PROFILES


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it did what was asked, 1 after one line that says what was wrong."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except (ValueError, OSError) as error:
        print(f"c2f-lrp {options.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        again = {"reproduce": "run it again with --resume to go on", "train": "run it again to go on"}
        print(f"\nc2f-lrp {options.command}: interrupted; {again.get(options.command, '')}", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="c2f-lrp", description="Explainable attacks on coarse-to-fine classifiers.")
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, run, text: str, profile: str = "scenes") -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        sub.add_argument("--profile", default=profile, help=f"one of {', '.join(PROFILES)} (default {profile})")
        return sub

    sub = command("reproduce", reproduce, "Regenerate every figure and table by running the notebooks.")
    sub.add_argument("--only", action="append", metavar="NOTEBOOK", help="only this one, such as table_1; repeatable")
    sub.add_argument("-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    sub.add_argument("--root", type=Path, help="folder of photographs")
    sub.add_argument("--out", type=Path, help="where figures go (default: figures/)")
    sub.add_argument("--resume", action="store_true", help="keep the attacks that an earlier run finished")

    sub = commands.add_parser("verify", help="Say which figures and tables are stale or altered.")
    sub.set_defaults(run=verify)
    sub.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="such as figures/scenes")

    sub = commands.add_parser("book", help="Build the read-along book, as web pages.")
    sub.set_defaults(run=book)
    sub.add_argument("--out", type=Path, default=Path("build/book"), help="where the pages go (default: build/book/)")

    sub = command("train", train, "Train the coarse and the fine networks; goes on where it was interrupted.")
    sub.add_argument("--root", type=Path, help="folder of photographs")
    sub.add_argument("--out", type=Path, help="write weights and checkpoints.csv here instead of into the package")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--device", default="cpu", help="cpu (default) or cuda")

    sub = command("attack", attack, "Attack photographs: a figure and a line for each.", profile="tiny-imagenet")
    sub.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    sub.add_argument("--attack", default="lrpc", help="lrpc, lrpf, pgdc, pgdf, dfc or dff")
    sub.add_argument("--eps", type=float, nargs="+", help="bounds in pixel units (default 10 20 40)")
    sub.add_argument("--out", type=Path, default=Path("attacked"), help="where the figures go (default: attacked/)")
    sub.add_argument("--weights", type=Path, help="folder of weights written by train --out")

    sub = command("data", data, "Check that a profile's data can be read.", profile="tiny-imagenet")
    sub.add_argument("action", choices=["check"])
    sub.add_argument("--root", type=Path, help="folder of photographs")
    return top


def reproduce(options: argparse.Namespace) -> int:
    from c2f_lrp.reproduce import run_notebooks

    parameters = {}
    for name, value in options.parameter:
        try:
            parameters[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"parameter {name}: {value!r} is not YAML, such as 3, word or '[10, 20]'") from error
    return run_notebooks(
        options.profile,
        only=options.only,
        parameters=parameters,
        root=options.root,
        out=options.out,
        resume=options.resume,
    )


def verify(options: argparse.Namespace) -> int:
    from c2f_lrp.provenance import verify as problems

    found = [f"{folder}/{line}" for folder in options.folders for line in problems(folder)]
    print("\n".join(found) or "everything is as its sidecars say, made with the weights that are here")
    return 1 if found else 0


def book(options: argparse.Namespace) -> int:
    from c2f_lrp.provenance import REPOSITORY

    notebooks = REPOSITORY / "notebooks"
    if not (REPOSITORY / "pyproject.toml").is_file():
        raise ValueError("the book shows figures/ and the README; build it in a copy of the repository")
    try:
        from sphinx.cmd.build import main as build
    except ImportError as error:
        raise ValueError(f'{error.name} is missing; run: python -m pip install -e ".[book]"') from error
    # Every page anew, as Sphinx does not see when figures change; a warning, such as of a link to nowhere, is an error.
    failed = build(["-EnWq", "--keep-going", "-c", str(notebooks / "book"), str(notebooks), str(options.out)])
    if not failed:
        print(f"open {options.out / 'index.html'}")
    return failed


def train(options: argparse.Namespace) -> int:
    import torch

    from c2f_lrp import get_profile, read_images
    from c2f_lrp.training import train as train_networks

    if options.device not in ("cpu", "cuda") or (options.device == "cuda" and not torch.cuda.is_available()):
        raise ValueError(f"device {options.device!r} cannot be used here; choose cpu, or cuda where there is a GPU")
    profile = get_profile(options.profile)
    processes = os.cpu_count() or 1
    images = [
        read_images(profile.name, split, root=options.root, processes=processes) for split in ("train", "validation")
    ]
    command = f"c2f-lrp train --profile {profile.name} --seed {options.seed}" + (" --root DIR" if options.root else "")
    rows = train_networks(
        profile, *images, out=options.out, seed=options.seed, command=command, device=options.device
    )
    for row in rows:
        print(f"{row['network']:24} {float(row['accuracy']):.1%} of {row['validation_images']} held-out images")
    return 0


def attack(options: argparse.Namespace) -> int:
    from c2f_lrp import get_profile, load_classifier
    from c2f_lrp.photos import attack_photo

    classifier = load_classifier(options.profile, options.weights)
    size = get_profile(options.profile).image_size
    for photo in options.photos:
        print(attack_photo(classifier, photo, size, options.attack, options.eps, options.out))
    return 0


def data(options: argparse.Namespace) -> int:
    from c2f_lrp import read_images

    for split in ("train", "validation", "evaluation"):
        images = read_images(options.profile, split, root=options.root)
        print(f"{split:10} {len(images)} images, {len(images.coarse.unique())} coarse classes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
