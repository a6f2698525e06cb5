"""``caffe-scnn convert``: a model in Caffe's current form."""

from __future__ import annotations

from pathlib import Path

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.models import Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options
from caffe_scnn.cli.writing import Destination, destination_options
from caffe_scnn.convert import convert
from caffe_scnn.errors import FormatError
from caffe_scnn.passes import PASSES
from caffe_scnn.preprocess import FILE_NAME, Preprocess
from caffe_scnn.report import Report
from caffe_scnn.save import save


def _list_passes(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        for name, function in PASSES.items():
            said = (function.__doc__ or "").splitlines()[0].removesuffix(" (see the module).")
            click.echo(f"{name:16} {said}")
        context.exit()


def _size(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Read ``320x240``: height, width."""
    if text is None:
        return None
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise click.BadParameter(f'"{text}" is no size; write HEIGHTxWIDTH, such as 320x240')
    return int(parts[0]), int(parts[1])


@click.command(
    "convert",
    epilog=examples(
        "caffe-scnn convert old.prototxt old.caffemodel -o new",
        "caffe-scnn convert train_val.prototxt snapshot.caffemodel -o test --phase TEST --fold-bn",
    ),
)
@takes_models(weights=False)
@destination_options
@click.option(
    "--fold-bn",
    is_flag=True,
    help="Fold BatchNorm and Scale into the convolutions and fc layers before them.",
)
@click.option(
    "--stock",
    is_flag=True,
    help="Replace layer types of Caffe forks by stock ones that compute the same.",
)
@click.option(
    "--pass",
    "passes",
    type=click.Choice(list(PASSES)),
    multiple=True,
    help="Apply this pass; may be repeated, they are applied in order.",
)
@click.option(
    "--outputs", metavar="A,B", help="Keep these blobs and only the layers that lead to them."
)
@click.option(
    "--input-size", metavar="HxW", callback=_size, help="Let the net take images of this size."
)
@click.option(
    "--list-passes",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_passes,
    help="Show what passes there are.",
)
@opening_options
def command(
    models: Models,
    destination: Destination,
    fold_bn: bool,
    stock: bool,
    passes: tuple[str, ...],
    outputs: str | None,
    input_size: tuple[int, int] | None,
    opening: Opening,
) -> None:
    """Write a model in Caffe's current form: DIR/deploy.prototxt, DIR/weights.caffemodel.

    Without options only the format is upgraded: comments, order and unknown layers stay. The
    options change more: --phase, --level and --stage keep the layers of one net state, --fold-bn,
    --stock and --pass rewrite layers (and check that the result computes the same), then --outputs
    cuts the net and --input-size changes the images it takes.
    """
    short = {"fold_batch_norm": fold_bn, "to_stock": stock}
    asked = [*(name for name, wanted in short.items() if wanted), *passes]

    def action(model: ModelFiles) -> Report:
        place = models.place(destination.out, model)
        with destination.folder(place, model) as folder:
            converted = convert(
                model.prototxt or "",
                model.caffemodel,
                phase=opening.phase,
                level=opening.level or 0,
                stages=opening.stages,
                passes=asked,
                outputs=outputs.split(",") if outputs else (),
                input_size=input_size,
                allow_missing=opening.allow_missing,
                inputs=dict(opening.shapes),
            )
            save(converted.net, folder, weights=converted.weights)
            if input_size and (folder / FILE_NAME).exists():
                _refit(folder, model, input_size)
        lines = [*converted.notes, f"wrote {place}"]
        return Report({"output": place, "notes": converted.notes}, ("\n".join(lines),))

    models.deliver(action)


def _refit(folder: Path, model: ModelFiles, size: tuple[int, int]) -> None:
    """Let the settings of pictures lead to the new size, or leave them out."""
    try:
        settings = Preprocess.beside(model.folder).of_size(*size)
        (folder / FILE_NAME).write_text(settings.text(folder), encoding="utf-8")
    except FormatError as error:
        (folder / FILE_NAME).unlink()
        click.echo(f"{FILE_NAME} is left out: {error}", err=True)
