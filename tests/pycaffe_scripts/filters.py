"""Lay the filters and the responses of the first convolution out as squares, then edit a filter.

Arguments: PROTOTXT CAFFEMODEL; prints the sizes of both pictures.
"""

import sys

import caffe
import numpy as np

caffe.set_mode_cpu()
net = caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)
name = next(layer for layer in net._layer_names if net.layer_dict[layer].type == "Convolution")


def squares(maps):
    n = int(np.ceil(np.sqrt(len(maps))))
    maps = np.pad(maps, ((0, n * n - len(maps)), (0, 1), (0, 1)))
    rows = maps.reshape(n, n, *maps.shape[1:]).transpose(0, 2, 1, 3)
    return rows.reshape(n * maps.shape[1], n * maps.shape[2])


filters = net.params[name][0].data
net.blobs["data"].data[...] = np.random.RandomState(0).rand(*net.blobs["data"].data.shape)
top = net.top_names[name][0]
before = net.forward(end=name)[top].copy()
sizes = squares(filters[:, 0]).shape, squares(before[0]).shape

filters[0] += 1
after = net.forward(end=name)[top]
changed = np.abs(after - before).max(axis=(0, 2, 3)) > 0
assert changed[0] and not changed[1:].any()
net.forward()
print(*sizes)
