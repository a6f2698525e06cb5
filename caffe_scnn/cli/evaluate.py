"""``caffe-scnn evaluate``: how good a model is, one subcommand a task."""

from __future__ import annotations

from caffe_scnn.cli.front_door import CommandTable

COMMANDS = {
    "classify": "Measure how often the right class is the best, and among the best five.",
    "voc": "Measure the average precision of detections on PASCAL VOC.",
    "proposals": "Measure how many objects a list of windows covers.",
}

command = CommandTable(
    name="evaluate",
    commands_help=COMMANDS,
    module="caffe_scnn.cli.evaluate_{}",
    help="Measure how good a model is on labelled data.",
)
