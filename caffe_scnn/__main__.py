"""``python -m caffe_scnn`` is ``caffe-scnn``."""

from caffe_scnn.cli import main

main(prog_name="caffe-scnn")
