"""What a command found, for people (text, markdown) and for programs (JSON)."""

from caffe_scnn.report.report import Report
from caffe_scnn.report.table import Column, Table

__all__ = ["Column", "Report", "Table"]
