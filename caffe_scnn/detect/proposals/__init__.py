"""Windows that may hold an object: found in a picture, laid over it, or read from a file."""

from caffe_scnn.detect.proposals.files import FromFile, read_proposals, write_proposals
from caffe_scnn.detect.proposals.proposer import Kept, Proposer, make_proposer
from caffe_scnn.detect.proposals.recall import Coverage
from caffe_scnn.detect.proposals.selective_search import SelectiveSearch
from caffe_scnn.detect.proposals.sliding_windows import SlidingWindows
from caffe_scnn.detect.proposals.tidy import MINIMUM_SIDE, tidy

__all__ = [
    "MINIMUM_SIDE",
    "Coverage",
    "FromFile",
    "Kept",
    "Proposer",
    "SelectiveSearch",
    "SlidingWindows",
    "make_proposer",
    "read_proposals",
    "tidy",
    "write_proposals",
]
