"""Object detection: windows, their features, classifiers in a cascade, boxes."""
