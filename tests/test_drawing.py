"""Boxes land on the pixels they name; sheets hold every picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from caffe_scnn.detect.drawing import (
    class_colour,
    contact_sheets,
    draw_detections,
    write_picture,
)
from caffe_scnn.errors import OutputError

GREY = np.full((100, 150, 3), 128, np.uint8)


def drawn(labels, scores, boxes, **settings):
    return draw_detections(
        GREY,
        ["cat", "dög"],
        np.array(labels, int),
        np.array(scores, float),
        np.array(boxes, float).reshape(-1, 4),
        **settings,
    )


def test_a_box_is_drawn_on_the_pixels_it_names():
    # the lines are two pixels wide: the named pixel and a neighbour
    picture = drawn([0], [0.5], [[21, 41, 120, 90]])
    colour = class_colour(0)
    for row, column in ((60, 20), (60, 119), (89, 60), (40, 119)):
        assert tuple(picture[row, column]) == colour
    assert (picture[50:80, 30:110] == 128).all()
    assert (picture[95:] == 128).all()
    assert (GREY == 128).all()  # the picture itself is left alone


def test_the_best_lies_on_top():
    box = [21, 41, 120, 90]
    for labels, scores in (([0, 1], [0.9, 0.1]), ([1, 0], [0.1, 0.9])):
        picture = drawn(labels, scores, [box, box])
        assert tuple(picture[60, 20]) == class_colour(0)


@pytest.mark.parametrize("box", [[1, 1, 150, 100], [140, 95, 150, 100], [1, 1, 1, 1]])
def test_tags_stay_inside_the_picture(box):
    picture = drawn([1], [-1.25], [box])
    assert picture.shape == GREY.shape
    ground = (picture == class_colour(1)).all(axis=2)
    rows, columns = np.nonzero(ground)
    assert np.ptp(columns) > 30  # the tag is there, as a whole
    assert len(rows) > 200


def test_objects_are_drawn_below_detections():
    boxes = np.array([[21.0, 41, 120, 90]])
    assert (drawn([], [], [], objects=boxes)[60, 20] == 255).all()
    assert tuple(drawn([0], [1], boxes, objects=boxes)[60, 20]) == class_colour(0)
    np.testing.assert_array_equal(drawn([], [], []), GREY)


def test_classes_have_colours_of_their_own():
    colours = np.array([class_colour(index) for index in range(20)], float)
    distances = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 999 * np.eye(20)
    assert distances.min() > 40


def test_sheets_hold_every_picture():
    shades = [np.full((60 + 10 * k, 80, 3), 10 * k, np.uint8) for k in range(7)]
    made = list(contact_sheets(((f"no {k}", p) for k, p in enumerate(shades)), 2, 2, (80, 60)))
    assert [sheet.shape for sheet in made] == [(184, 184, 3), (184, 184, 3)]
    for k in range(7):
        sheet, (row, column) = made[k // 4], divmod(k % 4, 2)
        centre = sheet[8 + 88 * row + 30, 8 + 88 * column + 40]
        assert (centre == 10 * k).all()
    wide = np.zeros((10, 400, 3), np.uint8)
    (sheet,) = contact_sheets([("x" * 500, wide)], 3, 2, (80, 60))
    assert sheet.shape == (96, 96, 3)
    assert (sheet[8 + 29, 8:88] == 0).all()
    assert (sheet[8:20, 8:88] == 245).all()
    assert list(contact_sheets([])) == []


def test_pictures_are_written_by_their_suffix(tmp_path):
    write_picture(tmp_path / "a.png", GREY)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png")), GREY)
    write_picture(tmp_path / "a.jpg", GREY)
    for name in ("a.xyz", "a"):
        with pytest.raises(OutputError, match=r"written as \.png or \.jpg"):
            write_picture(tmp_path / name, GREY)
    with pytest.raises(OutputError, match="cannot be written"):
        write_picture(tmp_path / "missing" / "a.png", GREY)
