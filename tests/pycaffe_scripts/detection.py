"""Score windows of a picture: PROTOTXT CAFFEMODEL PICTURE; prints the best class of each."""

import sys

import numpy as np
from caffe import Detector

model, weights, picture = sys.argv[1:]
mean = np.array([104, 117, 123])
net = Detector(model, weights, mean=mean, raw_scale=255, channel_swap=(2, 1, 0), context_pad=2)
windows = [(0, 0, 20, 20), (5, 5, 40, 35), (10, 0, 30, 40)]
for found in net.detect_windows([(picture, windows)]):
    print(*found["window"], found["prediction"].argmax())
