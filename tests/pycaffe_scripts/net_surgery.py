"""Cast the fully connected layers of a net to convolutions and run it on a larger picture.

Arguments: PROTOTXT CAFFEMODEL OUTPUT.caffemodel; prints the shape of the map of scores.
"""

import sys

import caffe
import numpy as np
from caffe.proto import caffe_pb2
from google.protobuf import text_format

model, weights, output = sys.argv[1:]
net = caffe.Net(model, weights, caffe.TEST)

proto = caffe_pb2.NetParameter()
with open(model) as file:
    text_format.Merge(file.read(), proto)
fcs = [layer.name for layer in proto.layer if layer.type == "InnerProduct"]
for layer in proto.layer:
    if layer.type == "InnerProduct":
        bottom = net.blobs[layer.bottom[0]].data
        kernel = bottom.shape[2] if bottom.ndim == 4 else 1
        outputs = layer.inner_product_param.num_output
        layer.type = "Convolution"
        layer.ClearField("inner_product_param")
        layer.convolution_param.num_output = outputs
        layer.convolution_param.kernel_size.append(kernel)
        layer.name += "-conv"
with open(output + ".prototxt", "w") as file:
    file.write(text_format.MessageToString(proto))

conv = caffe.Net(output + ".prototxt", weights, caffe.TEST)
for name in fcs:
    conv.params[name + "-conv"][0].data.flat = net.params[name][0].data.flat
    conv.params[name + "-conv"][1].data[...] = net.params[name][1].data
conv.save(output)

data = np.random.RandomState(0).rand(*net.blobs["data"].data.shape)
name = net.outputs[0]
same = conv.forward(data=data)[name], net.forward(data=data)[name]
assert np.allclose(same[0].ravel(), same[1].ravel(), atol=1e-5)

n, c, h, w = conv.blobs["data"].data.shape
conv.blobs["data"].reshape(n, c, h + 16, w + 16)
conv.reshape()
large = np.zeros((n, c, h + 16, w + 16))
large[:, :, :h, :w] = data
out = conv.forward(data=large)[name]
assert np.allclose(out[:, :, 0, 0], same[1].reshape(out.shape[:2]), atol=1e-5)
print(*out.shape)
