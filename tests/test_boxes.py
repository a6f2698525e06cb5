"""Overlap, clipping and non-maximum suppression against the plainest form of each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from caffe_scnn.detect.boxes import areas, clip, nms, overlap, overlaps


def pixels(box):
    x1, y1, x2, y2 = map(int, box)
    return {(x, y) for x in range(x1, x2 + 1) for y in range(y1, y2 + 1)}


def counted(a, b):
    """Intersection over union by counting pixels."""
    both, either = pixels(a) & pixels(b), pixels(a) | pixels(b)
    return len(both) / len(either) if both else 0.0


corners = arrays(np.int64, (6, 2, 2), elements=st.integers(1, 12))
some_boxes = corners.map(lambda c: np.concatenate([c.min(1), c.max(1)], axis=1).astype(float))


@given(some_boxes, some_boxes)
def test_overlap_counts_pixels(a, b):
    expected = [[counted(one, other) for other in b] for one in a]
    np.testing.assert_allclose(overlaps(a, b), expected, rtol=1e-15)
    np.testing.assert_array_equal(areas(a), [len(pixels(one)) for one in a])


def test_half_is_exactly_half():
    # 10x10 and its left half; two boxes of 3 pixels that share 2 of 4
    assert overlap(np.array([1.0, 1, 10, 10]), np.array([1.0, 1, 5, 10])) == 0.5
    assert overlap(np.array([1.0, 1, 3, 1]), np.array([2.0, 1, 4, 1])) == 0.5


def test_boxes_the_wrong_way_round_overlap_nothing():
    bad = np.array([[5.0, 5, 3, 3], [9, 1, 1, 9], [4, 4, 3, 3]])
    good = np.array([[1.0, 1, 10, 10], [5, 5, 3, 3]])
    np.testing.assert_array_equal(overlaps(bad, good), 0)


def test_no_boxes():
    none, one = np.zeros((0, 4)), np.array([[1.0, 1, 2, 2]])
    assert overlaps(none, one).shape == (0, 1)
    assert overlaps(one, none).shape == (1, 0)
    assert nms(none, np.zeros(0)).shape == (0,)
    assert clip(none, 5, 5).shape == (0, 4)


def test_clip_keeps_boxes_inside_the_picture():
    boxes = np.array([[-3.0, 0, 99, 7.5], [2, 2, 3, 3]], np.float32)
    np.testing.assert_array_equal(clip(boxes, 20, 10), [[1, 1, 20, 7.5], [2, 2, 3, 3]])
    assert clip(boxes, 20, 10).dtype == np.float32


def slow_nms(boxes, scores, threshold):
    chosen = []
    for i in sorted(range(len(boxes)), key=lambda i: (-scores[i], i)):
        if all(counted(boxes[i], boxes[j]) <= threshold for j in chosen):
            chosen.append(i)
    return chosen


@given(
    some_boxes,
    arrays(np.float64, 6, elements=st.sampled_from([0.0, 0.5, 1.0])),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_nms_is_the_greedy_choice(boxes, scores, threshold):
    assert nms(boxes, scores, threshold).tolist() == slow_nms(boxes, scores, threshold)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 300])
def test_nms_of_many_boxes(count):
    rng = np.random.default_rng(count)
    corner = rng.integers(1, 40, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 20, (count, 2))], 1).astype(np.float32)
    scores = rng.integers(0, 50, count) / 10
    near = overlaps(boxes, boxes) > 0.3
    chosen = []
    for i in sorted(range(count), key=lambda i: (-scores[i], i)):
        if not near[i, chosen].any():
            chosen.append(i)
    assert nms(boxes, scores).tolist() == chosen
    assert nms(boxes, scores, limit=7).tolist() == chosen[:7]


@pytest.mark.parametrize("limit", [0, 1, 2, 9])
def test_nms_stops_at_the_limit(limit):
    boxes = np.array([[1.0, 1, 2, 2], [11, 1, 12, 2], [21, 1, 22, 2]])
    assert nms(boxes, np.array([0.1, 0.3, 0.2]), limit=limit).tolist() == [1, 2, 0][:limit]


def test_a_box_at_the_threshold_stays():
    boxes = np.array([[1.0, 1, 10, 10], [1, 1, 5, 10]])  # overlap 0.5
    scores = np.array([2.0, 1.0])
    assert nms(boxes, scores, 0.5).tolist() == [0, 1]
    assert nms(boxes, scores, 0.4999).tolist() == [0]
