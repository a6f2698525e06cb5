"""Many models in one go: which files belong together, and one outcome for each."""

from caffe_scnn.batch.models import ModelFiles, find_models
from caffe_scnn.batch.outcomes import USER_ERRORS, Outcome, Status, explain, run_all, summarize

__all__ = [
    "USER_ERRORS",
    "ModelFiles",
    "Outcome",
    "Status",
    "explain",
    "find_models",
    "run_all",
    "summarize",
]
