"""PASCAL VOC: annotations, image sets, result files, and average precision."""
