"""From a picture to the values a net takes: (pixel − mean) · scale, sizes and channels as Caffe's.

:class:`Preprocess` holds the settings, :class:`Transformer` fits them to the input of one net.
"""

from caffe_scnn.preprocess.mean import parse_mean, read_mean
from caffe_scnn.preprocess.settings import CHANNELS, FILE_NAME, Preprocess
from caffe_scnn.preprocess.transformer import Transformer

__all__ = ["CHANNELS", "FILE_NAME", "Preprocess", "Transformer", "parse_mean", "read_mean"]
