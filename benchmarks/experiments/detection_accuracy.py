"""Detectors on VOC pictures: backbones, maps, pyramid levels, scales, cascades; one table.

    python benchmarks/experiments/detection_accuracy.py DATA WORK [NAME...]

DATA holds VOCdevkit, squeezenet and mobilenet_v1_075. Every step is a call of the command line
whose result stays in WORK: a killed run goes on. NAME: only those rows of ROWS. Selective Search is
run once, for all rows.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from paired_bootstrap import compare

from caffe_scnn.evaluate.voc import Devkit
from caffe_scnn.save import CAFFEMODEL, PROTOTXT

NETS = {
    "squeezenet": ("squeezenet", "squeezenet.caffemodel", ["--mean", "104,117,123"]),
    "mobilenet": (
        "mobilenet_v1_075",
        "weights.caffemodel",
        ["--mean", "127.5", "--scale", "0.00784313725"],
    ),
}

# The compressed net learns to respond as the original does, on parts of the training pictures that
# are about as large as on the detector's scale; no label is looked at.
DISTIL = """
method = "keep"
[train]
steps = {steps}
batch = 16
optimizer = "adam"
learning_rate = 1e-3
warmup = 0.05
evaluate = 1000.0
[goals]
teacher = 0.0
responses = {responses}
[augment]
mirror = true
area = [0.05, 0.4]
colour = 0.1
"""


@dataclass(frozen=True)
class Course:
    """Options of ``compress`` (none: the net stays as it is), then a training of so many steps.

    The net learns to make the blobs ``responses`` that the original makes.
    """

    compress: tuple[str, ...]
    steps: int = 0
    responses: tuple[str, ...] = ()


LATER = ("conv[5-9]/pw", "conv1[0-2]/pw")
# `sparse`: 30 % of the multiply-accumulates. `faster`: the first layers, whose maps are large, lose
# channels, and all others weights.
COURSES = {
    "mobilenet-sparse": (
        Course(
            ("--method", "obs", "--macs", "0.3", "--layers", "conv*/pw"),
            700,
            ("conv?/pw", "conv1[0-2]/pw"),
        ),
    ),
    "mobilenet-faster": (
        Course(
            (
                *("--method", "channels", "--density", "0.6"),
                *("--layers", "conv1", "--layers", "conv[2-4]/pw"),
            )
        ),
        Course(("--method", "obs", "--macs", "0.32", "--layers", "conv*/pw"), 800, LATER),
        Course((), 2600, LATER),
    ),
    "squeezenet-sparse": (
        Course(("--method", "obs", "--macs", "0.3", "--layers", "fire*"), 700, ("fire?/concat",)),
    ),
}


@dataclass(frozen=True)
class Row:
    """One detector, and the cascades it is run with.

    With ``courses`` (a name) its net is that of the row ``of``, which went through them on the
    training pictures; differences are then to that row's full model.
    """

    net: str
    blob: str
    levels: str = "1,2,3,6"
    scales: str = "480"
    keeps: tuple[float, ...] = ()
    more: tuple[str, ...] = ()
    of: str = ""
    courses: str = ""


ROWS = {
    "mobilenet-conv12": Row("mobilenet", "conv12/pw", keeps=(0.2, 0.1, 0.05)),
    "mobilenet-conv12-321": Row("mobilenet", "conv12/pw", "1,2,3"),
    "mobilenet-conv12-31": Row("mobilenet", "conv12/pw", "1,3"),
    "mobilenet-conv12-1": Row("mobilenet", "conv12/pw", "1"),
    "mobilenet-conv11": Row("mobilenet", "conv11/pw"),
    "mobilenet-conv12-reduced": Row(
        "mobilenet", "conv12/pw", keeps=(0.1,), more=("--reduction", "1024")
    ),
    "mobilenet-conv12-688": Row("mobilenet", "conv12/pw", scales="688", keeps=(0.1,)),
    "mobilenet-conv12-5": Row(
        "mobilenet", "conv12/pw", scales="480,576,688,864,1200", keeps=(0.1,)
    ),
    "mobilenet-conv12-688-sparse": Row(
        "mobilenet",
        "conv12/pw",
        scales="688",
        keeps=(0.1,),
        of="mobilenet-conv12-688",
        courses="mobilenet-sparse",
    ),
    "mobilenet-conv12-688-faster": Row(
        "mobilenet",
        "conv12/pw",
        scales="688",
        keeps=(0.1,),
        of="mobilenet-conv12-688",
        courses="mobilenet-faster",
    ),
    "mobilenet-conv12-688-reduced": Row(
        "mobilenet", "conv12/pw", scales="688", keeps=(0.1,), more=("--reduction", "1024")
    ),
    "mobilenet-conv12-688-reduced-faster": Row(
        "mobilenet",
        "conv12/pw",
        scales="688",
        keeps=(0.1,),
        more=("--reduction", "1024"),
        of="mobilenet-conv12-688-reduced",
        courses="mobilenet-faster",
    ),
    "squeezenet-fire9": Row("squeezenet", "fire9/concat", keeps=(0.2, 0.1, 0.05)),
    "squeezenet-fire9-321": Row("squeezenet", "fire9/concat", "1,2,3"),
    "squeezenet-fire9-31": Row("squeezenet", "fire9/concat", "1,3"),
    "squeezenet-fire9-1": Row("squeezenet", "fire9/concat", "1"),
    "squeezenet-fire8": Row("squeezenet", "fire8/concat"),
    "squeezenet-fire9-688": Row("squeezenet", "fire9/concat", scales="688", keeps=(0.1,)),
    "squeezenet-fire9-688-sparse": Row(
        "squeezenet",
        "fire9/concat",
        scales="688",
        keeps=(0.1,),
        of="squeezenet-fire9-688",
        courses="squeezenet-sparse",
    ),
    "squeezenet-fire9-5": Row(
        "squeezenet", "fire9/concat", scales="480,576,688,864,1200", keeps=(0.1,)
    ),
}


def run(*arguments: object) -> dict:
    """Call the command line, and return what it says."""
    words = [sys.executable, "-m", "caffe_scnn", *map(str, arguments), "--json"]
    return json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)


def detector(data: Path, work: Path, name: str, row: Row) -> Path:
    """Train a row's detector unless that was done."""
    out = work / name / "detector"
    if not out.exists():
        folder, weights, pixels = NETS[row.net]
        net = [data / folder / "deploy.prototxt", data / folder / weights]
        if row.of:
            net = faster(data, work, row)
        run(
            "detect-train", *net, data / "VOCdevkit", "-o", out,
            "--blob", row.blob, "--levels", row.levels, "--scales", row.scales, *pixels, *row.more,
            "--proposals", work / "windows-trainval.npz", "--threads", 1, "--cache-size", 20,
        )  # fmt: skip
    return out


def faster(data: Path, work: Path, row: Row) -> list[Path]:
    """Let the net of a row go through its courses: its prototxt and caffemodel."""
    of, pictures = work / row.of / "detector", work / "pictures"
    detector(data, work, row.of, ROWS[row.of])
    if not pictures.exists():
        copy_pictures(data, pictures)
    net = original = [of / "backbone.prototxt", of / "backbone.caffemodel"]
    pixels = [*NETS[row.net][2], "--resize", 480, "--crop", 224, "--threads", 1]
    for number, course in enumerate(COURSES[row.courses]):
        place = work / row.courses / str(number)
        small, out = place / "compressed", place / "trained"
        if course.compress:
            if not small.exists():
                run("compress", *net, "-o", small, *course.compress, "--images", pictures, *pixels)
            net = [small / PROTOTXT, small / CAFFEMODEL]
        if course.steps:
            net = trained(net, original, course, out, ["--data", pictures, *pixels])
    return net


def trained(
    net: list[Path], original: list[Path], course: Course, out: Path, pictures: list[object]
) -> list[Path]:
    """Train a net to respond as the original does, unless that was done."""
    if not (out / CAFFEMODEL).exists():
        recipe = out.with_suffix(".toml")
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(DISTIL.format(steps=course.steps, responses=json.dumps(course.responses)))
        run(
            "finetune", *net, "-o", out, "--teacher", original[0],
            "--teacher-weights", original[1], "--recipe", recipe, *pictures,
            "--workers", 1, *(["--resume"] if out.exists() else []),
        )  # fmt: skip
    return [out / PROTOTXT, out / CAFFEMODEL]


def copy_pictures(data: Path, folder: Path) -> None:
    """Put the training pictures, and no others, into a folder."""
    kit = Devkit.open(data / "VOCdevkit")
    partial = folder.with_name(f"{folder.name}-partial")
    partial.mkdir(parents=True, exist_ok=True)
    for image in kit.image_ids("trainval"):
        path = kit.picture_path(image)
        shutil.copyfile(path, partial / path.name)
    partial.rename(folder)


def accuracy(data: Path, work: Path, name: str, model: Path, keep: float | None) -> Path:
    """Detect in the test pictures unless that was done; return the folder."""
    out = work / name / ("full" if keep is None else f"keep-{keep}")
    option = ["--no-cascade"] if keep is None else ["--keep", keep]
    if not (out / "run.json").exists():
        run(
            "detect", model, "--voc", data / "VOCdevkit", "-o", out, *option, "--threads", 1,
            "--proposals", work / "windows-test.npz", "--cache", work / "cache", "--no-pictures",
        )  # fmt: skip
    return out


def windows(data: Path, work: Path) -> None:
    """Run Selective Search on all pictures unless that was done."""
    for name in ("trainval", "test"):
        path = work / f"windows-{name}.npz"
        if not path.exists():
            run(
                "evaluate", "proposals", data / "VOCdevkit", "--set", name, "--write", path,
                "--cache", work / "windows",
            )  # fmt: skip


def main() -> None:
    """Print a row of markdown for each detector and cascade."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    data, work = Path(sys.argv[1]), Path(sys.argv[2])
    names = sys.argv[3:] or list(ROWS)
    work.mkdir(parents=True, exist_ok=True)
    windows(data, work)
    print("| detector | levels | scales | windows kept | mAP [%] | difference [points] |")
    print("|---|---|---|---|---|---|")
    for name in names:
        row = ROWS[name]
        model = detector(data, work, name, row)
        full = accuracy(data, work, name, model, None)
        first = full
        if row.of:
            first = accuracy(data, work, row.of, work / row.of / "detector", None)
        for keep in (None, *row.keeps):
            found = accuracy(data, work, name, model, keep)
            ap = run("evaluate", "voc", found, data / "VOCdevkit", "--set", "test")
            line = f"| {name} | {row.levels} | {row.scales} | "
            line += f"{'all' if keep is None else keep} | {100 * ap['mean']:.2f} | "
            if found != first:
                sure = compare(data / "VOCdevkit", first, found)
                line += f"{sure['difference']:+.2f} ({sure['low']:+.2f} … {sure['high']:+.2f}) "
            print(line + "|", flush=True)


if __name__ == "__main__":
    main()
