"""``caffe-scnn python``: a pycaffe script without Caffe."""

from __future__ import annotations

import runpy
import sys
import traceback
from pathlib import Path

import click

from caffe_scnn.cli.front_door import examples
from caffe_scnn.cli.models import FILE
from caffe_scnn.pycaffe import install


@click.command(
    "python",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    epilog=examples("caffe-scnn python classify.py --gpu 0 cat.jpg"),
)
@click.argument("script", type=FILE)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...")
def command(script: Path, arguments: tuple[str, ...]) -> None:
    """Run a Python SCRIPT in which "import caffe" means caffe_scnn.pycaffe.

    Everything after SCRIPT is the script's own. It runs as under python: its exit code and its
    tracebacks are passed on.
    """
    if not script.is_file():
        raise FileNotFoundError(2, "No such file", str(script))
    install()
    before = sys.argv, sys.path[:]
    sys.argv = [str(script), *arguments]
    sys.path.insert(0, str(script.resolve().parent))
    try:
        runpy.run_path(str(script), run_name="__main__")
    except Exception as error:
        # From the script's own first line on: what called it is of no interest.
        own = error.__traceback__
        while own is not None and own.tb_frame.f_code.co_filename != str(script):
            own = own.tb_next
        traceback.print_exception(error.with_traceback(own or error.__traceback__))
        sys.exit(1)
    finally:
        sys.argv, sys.path[:] = before
