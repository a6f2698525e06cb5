"""Training of Caffe nets with PyTorch; everything in here needs the extra ``train``."""
