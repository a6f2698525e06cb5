"""``caffe-scnn convert``: a model in Caffe's current form."""

from __future__ import annotations

import click

from caffe_scnn.batch import ModelFiles
from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.models import Models, takes_models
from caffe_scnn.cli.opening import Opening, opening_options
from caffe_scnn.cli.writing import Destination, destination_options
from caffe_scnn.convert import convert
from caffe_scnn.report import Report
from caffe_scnn.save import save


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
@opening_options
def command(
    models: Models, destination: Destination, fold_bn: bool, stock: bool, opening: Opening
) -> None:
    """Write a model in Caffe's current form: DIR/deploy.prototxt, DIR/weights.caffemodel.

    Without options only the format is upgraded: comments, order and unknown layers stay. The
    options change more: --phase, --level and --stage keep the layers of one net state, --fold-bn
    and --stock rewrite layers (and check that the result computes the same).
    """
    asked = {"fold_batch_norm": fold_bn, "to_stock": stock}

    def action(model: ModelFiles) -> Report:
        place = models.place(destination.out, model)
        with destination.folder(place, model) as folder:
            converted = convert(
                model.prototxt or "",
                model.caffemodel,
                phase=opening.phase,
                level=opening.level or 0,
                stages=opening.stages,
                passes=[name for name, wanted in asked.items() if wanted],
                allow_missing=opening.allow_missing,
            )
            save(converted.net, folder, weights=converted.weights)
        lines = [*converted.notes, f"wrote {place}"]
        return Report({"output": place, "notes": converted.notes}, ("\n".join(lines),))

    models.deliver(action)
