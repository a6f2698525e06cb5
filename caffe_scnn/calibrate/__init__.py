"""What a net's layers really compute: statistics of their inputs and responses on images."""

from caffe_scnn.calibrate.calibration import Calibration
from caffe_scnn.calibrate.images import Images
from caffe_scnn.calibrate.samples import Samples
from caffe_scnn.calibrate.statistics import LayerStatistics

__all__ = ["Calibration", "Images", "LayerStatistics", "Samples"]
