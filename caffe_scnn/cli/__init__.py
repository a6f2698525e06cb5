"""The command ``caffe-scnn``: one subcommand a file, listed here.

To add one, write ``cli/<name>.py`` with a click command called ``command``, and a line below.
"""

import click

from caffe_scnn import __version__
from caffe_scnn.cli.front_door import FrontDoor

COMMANDS = {
    "info": "Layers, shapes, multiply-accumulates, parameters and density of a model.",
    "convert": "Bring a model to the current format; on request select a phase, fold, make stock.",
    "compress": "Make a model's weights sparse and write it as an ordinary Caffe model.",
    "sensitivity": "Show what a model loses when one layer alone gets smaller.",
    "finetune": "Train a model, on labels or to answer like its original, and keep it small.",
    "run": "Run a model on arrays and write its blobs.",
    "classify": "Name the classes of pictures.",
    "detect-train": "Train a detector on top of a classification net.",
    "detect": "Find objects in pictures.",
    "detect-import": "Make a detector of MATLAB's SPP_net.",
    "evaluate": "Measure how good a model is on labelled data.",
    "compare": "Compare a model blob by blob with another one or with stored results.",
    "bench": "Measure how fast a model runs, layer by layer.",
    "extract": "Write the weights of a model as arrays.",
    "inject": "Make a caffemodel of arrays.",
    "diff": "Show what differs between the weights of two models.",
    "merge": "Give a prototxt the weights of another net's caffemodel where they fit.",
    "python": "Run a pycaffe script without Caffe.",
    "doctor": "Show what this machine and this installation offer.",
}

main = click.version_option(__version__, prog_name="caffe-scnn")(
    FrontDoor(
        name="caffe-scnn",
        commands_help=COMMANDS,
        module="caffe_scnn.cli.{}",
        help="Read a Caffe model, make it sparse, write it back, and run it fast on a CPU.",
        epilog="Exit status: 0 done, 1 a check failed, 2 bad input or usage.",
    )
)
