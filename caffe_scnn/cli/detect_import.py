"""``caffe-scnn detect-import``: a detector of MATLAB's SPP_net."""

from __future__ import annotations

from pathlib import Path

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.integers import INTEGERS
from caffe_scnn.cli.models import FILE, Output, output_options
from caffe_scnn.cli.opening import Opening, opening_options
from caffe_scnn.detect.model_folder import FILES
from caffe_scnn.detect.spp_net_import import RELEASED_SCALES, import_spp_net
from caffe_scnn.model.atomic import output_directory
from caffe_scnn.report import Report


@click.command(
    "detect-import",
    epilog=examples(
        "caffe-scnn detect-import spp_model.mat Zeiler_conv5.prototxt Zeiler_conv5 -o zf5"
    ),
)
@click.argument("spp_model", type=FILE)
@click.argument("prototxt", type=FILE)
@click.argument("caffemodel", type=FILE)
@click.option("--blob", help="The feature map [the net's only output].")
@click.option(
    "--scales",
    type=INTEGERS,
    default=",".join(map(str, RELEASED_SCALES)),
    show_default=True,
    help="Shorter sides of the scaled picture, in pixels.",
)
@click.option(
    "-o", "--output", "out", type=FILE, metavar="DIR", required=True, help="Folder to write."
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the folder if it exists and holds nothing but a detector.",
)
@opening_options
@output_options
def command(
    spp_model: Path,
    prototxt: Path,
    caffemodel: Path,
    blob: str | None,
    scales: tuple[int, ...],
    out: Path,
    overwrite: bool,
    opening: Opening,
    output: Output,
) -> None:
    """Make a detector of SPP_net's spp_model.mat and the convolutions it was made with.

    PROTOTXT and CAFFEMODEL are the files that spp_model.cnn names; a prototxt in SPP_net's dialect
    is brought into the current form.
    """
    backbone = opening.load(ModelFiles.of(prototxt, caffemodel))
    with output_directory(out, overwrite, FILES) as folder:
        model = import_spp_net(spp_model, backbone, blob, scales)
        model.write(folder)
    settings = model.settings
    found = {"classes": settings.classes, "levels": settings.levels, "blob": settings.blob}
    levels = ", ".join(map(str, settings.levels))
    words = f"{out}: {len(settings.classes)} classes, levels {levels}, feature map {settings.blob}."
    output.show(Report({"output": str(out), **found, "scales": settings.scales}, (words,)))
