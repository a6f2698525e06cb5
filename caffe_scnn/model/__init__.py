"""The net as data: prototxt and caffemodel, without losing anything."""
