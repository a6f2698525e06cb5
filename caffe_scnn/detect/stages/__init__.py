"""The stages a detector is made of, one a file.

:mod:`caffe_scnn.detect.detector` puts them in order.

To add one, write a file with a dataclass that has a name, a part and ``run``, and a line below.
"""

from caffe_scnn.detect.stages.base import Part, Stage
from caffe_scnn.detect.stages.classify import Classify
from caffe_scnn.detect.stages.fc import Fc
from caffe_scnn.detect.stages.nms import Nms
from caffe_scnn.detect.stages.propose import Propose
from caffe_scnn.detect.stages.pyramid import Pyramid
from caffe_scnn.detect.stages.regress import Regress
from caffe_scnn.detect.stages.reject import Reject
from caffe_scnn.detect.stages.spp_pool import SppPool

STAGES: tuple[type[Stage], ...] = (
    Propose,
    Pyramid,
    SppPool,
    Reject,
    Fc,
    Classify,
    Nms,
    Regress,
)

__all__ = [
    "STAGES",
    "Classify",
    "Fc",
    "Nms",
    "Part",
    "Propose",
    "Pyramid",
    "Regress",
    "Reject",
    "SppPool",
    "Stage",
]
