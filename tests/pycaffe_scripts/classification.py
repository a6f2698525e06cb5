"""Classify a picture: PROTOTXT CAFFEMODEL PICTURE; prints the five best classes."""

import sys

import caffe
import numpy as np

caffe.set_device(0)
caffe.set_mode_gpu()

model, weights, picture = sys.argv[1:]
net = caffe.Net(model, weights, caffe.TEST)

transformer = caffe.io.Transformer({"data": net.blobs["data"].data.shape})
transformer.set_transpose("data", (2, 0, 1))
transformer.set_mean("data", np.array([104.0, 117.0, 123.0]))
transformer.set_raw_scale("data", 255)
transformer.set_channel_swap("data", (2, 1, 0))

net.blobs["data"].reshape(2, 3, *net.blobs["data"].data.shape[2:])
image = caffe.io.load_image(picture)
net.blobs["data"].data[...] = transformer.preprocess("data", image)
output = net.forward()

scores = output[net.outputs[0]][1].flatten()
for layer, blob in net.blobs.items():
    assert np.isfinite(blob.data).all(), layer
for layer, param in net.params.items():
    assert all(p.data.size for p in param), layer
print(*scores.argsort()[::-1][:5])
