"""Annotations as VOC writes them, as others do, and those that are wrong."""

from __future__ import annotations

import pytest
from voc_support import an_object, make_devkit

from caffe_scnn.errors import FormatError
from caffe_scnn.evaluate.voc import VOC_CLASSES, Devkit, read_annotation

# A person with parts, whose names and boxes are not the person's; corners in another order;
# fractions; a second object with nothing but its name and box.
PERSON = """<annotation>
  <folder>VOC2011</folder><filename>another.jpg</filename>
  <size><width>500</width><height>333</height><depth>3</depth></size>
  <object>
    <part><name>head</name>
      <bndbox><xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></part>
    <name> person </name><pose>Left</pose><truncated>1</truncated><difficult>1</difficult>
    <bndbox><xmax>45.7000</xmax><xmin>0</xmin><ymax>99</ymax><ymin>10.5</ymin></bndbox>
    <actions><jumping>1</jumping></actions>
  </object>
  <object>
    <name>Dining Table</name>
    <bndbox><xmin>5</xmin><ymin>6</ymin><xmax>5</xmax><ymax>6</ymax></bndbox>
  </object>
</annotation>
"""


@pytest.fixture
def read(tmp_path):
    def write_and_read(text):
        path = tmp_path / "2011_000007.xml"
        path.write_text(text)
        return read_annotation(path)

    return write_and_read


def test_an_annotation_with_every_pitfall(read):
    annotation = read(PERSON)
    assert annotation.image == "2011_000007"
    assert (annotation.width, annotation.height) == (500, 333)
    person, table = annotation.objects
    assert (person.name, person.pose) == ("person", "Left")
    assert person.box == (0.0, 10.5, 45.7, 99.0)
    assert person.difficult
    assert person.truncated
    assert person.line == 4
    assert table.name == "Dining Table"
    assert table.box == (5, 6, 5, 6)
    assert not (table.difficult or table.truncated or table.pose)


def test_a_picture_without_objects_or_size(read):
    annotation = read("<annotation></annotation>")
    assert annotation.objects == ()
    assert annotation.width == annotation.height == 0
    assert read("<annotation><size><width/><height>0</height></size></annotation>").width == 0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<xmin>0</xmin>", "", r"xml:8: a <bndbox> without <xmin>"),
        ("45.7000", "wide", r'xml:8: <xmax> is "wide", no number'),
        ("45.7000", "nan", r'xml:8: <xmax> is "nan", no number'),
        ("<name>Dining Table</name>", "", r"xml:11: an object without a <name>"),
        ("<xmax>5</xmax>", "<xmax>4</xmax>", r"xml:13: a <bndbox> from \(5, 6\) to \(4, 6\)"),
        ("<difficult>1<", "<difficult>maybe<", r'xml:7: <difficult> is "maybe", neither 0 nor 1'),
        ("</annotation>", "", r"xml:16:1: not well-formed XML: no element found"),
        ("annotation>", "html>", r"xml:1: the outermost element is <html>"),
        (PERSON, "", r"xml:1:1: not well-formed XML: no element found"),
        (PERSON, '<?xml version="1.0" encoding="x-y"?><annotation/>', r"xml:1.*x-y|unknown enc"),
        (PERSON, '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', r'xml:1: declares the entity "b"'),
    ],
)
def test_what_is_wrong_is_named_with_its_line(read, old, new, message):
    with pytest.raises(FormatError, match=message):
        read(PERSON.replace(old, new))


def test_an_object_without_a_box(read):
    with pytest.raises(FormatError, match=r'xml:2: the object "cat" has no <bndbox>'):
        read("<annotation>\n<object><name>cat</name></object></annotation>")


IMAGES = {"000001": [an_object("cat", (1, 2, 3, 4))], "000002": []}


def test_a_devkit_is_found_from_above_and_by_itself(tmp_path):
    make_devkit(tmp_path, IMAGES)
    for path, year in ((tmp_path, None), (tmp_path, 2007), (tmp_path / "VOC2007", None)):
        devkit = Devkit.open(path, year)
        assert (devkit.folder, devkit.year) == (tmp_path / "VOC2007", 2007)
    make_devkit(tmp_path, IMAGES, 2012)
    assert Devkit.open(tmp_path, 2012).year == 2012
    with pytest.raises(FormatError, match=r"years found: 2007, 2012.*--year"):
        Devkit.open(tmp_path)
    with pytest.raises(FormatError, match=r"VOC2010 is wanted here \(years found: 2007\)"):
        Devkit.open(tmp_path / "VOC2007", 2010)
    with pytest.raises(FormatError, match=r"VOC<year> is wanted here \(years found: none\)"):
        Devkit.open(tmp_path / "elsewhere")


def test_image_sets_and_labels(tmp_path):
    devkit = Devkit.open(make_devkit(tmp_path, IMAGES))
    main = devkit.folder / "ImageSets" / "Main"
    (main / "cat_test.txt").write_text("000001  1\n000002 -1\n\n")
    assert devkit.image_ids("test") == ["000001", "000002"]
    assert devkit.image_ids("cat_test") == ["000001", "000002"]  # MATLAB reads it so
    assert devkit.labels("cat", "test") == {"000001": 1, "000002": -1}
    assert [a.image for a in devkit.annotations("test")] == ["000001", "000002"]
    with pytest.raises(FormatError, match=r"val\.txt: no such image set; sets here: test$"):
        devkit.image_ids("val")
    (main / "cat_test.txt").write_text("000001  1\n000002 2\n")
    with pytest.raises(FormatError, match=r'cat_test\.txt:2: .*not "000002 2"'):
        devkit.labels("cat", "test")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("000001\n\n000001\n", r'test\.txt:3: image "000001" stands on line 1 already'),
        ("000001\na b c\n", r'test\.txt:2: each line is the id of an image, not "a b c"'),
        ("000001\n../x\n", r"test\.txt:2: each line is the id"),
        ("\n", r"test\.txt: the image set is empty"),
        (
            "000001\n000009\n",
            r'test\.txt:2: the set names image "000009", but there is no .*9\.xml',
        ),
    ],
)
def test_image_sets_that_are_wrong(tmp_path, lines, message):
    devkit = Devkit.open(make_devkit(tmp_path, IMAGES))
    devkit.image_set_path("test").write_text(lines)
    with pytest.raises(FormatError, match=message):
        list(devkit.annotations("test"))


def test_pictures_are_found_whatever_their_suffix(tmp_path):
    devkit = Devkit.open(make_devkit(tmp_path, IMAGES))
    (devkit.folder / "JPEGImages").mkdir()
    (devkit.folder / "JPEGImages" / "000002.png").touch()
    assert devkit.picture_path("000002").name == "000002.png"
    with pytest.raises(FormatError, match=r'JPEGImages: no picture of image "000001"'):
        devkit.picture_path("000001")


def test_the_real_devkit(data_dir):
    devkit = Devkit.open(data_dir / "VOCdevkit")
    annotations = list(devkit.annotations("test"))
    assert len(annotations) == 250
    names = {item.name for annotation in annotations for item in annotation.objects}
    assert names == set(VOC_CLASSES)
    cats = devkit.labels("cat", "test")
    for annotation in annotations:
        own = [item.difficult for item in annotation.objects if item.name == "cat"]
        assert cats[annotation.image] == (-1 if not own else 0 if all(own) else 1)
        assert devkit.picture_path(annotation.image).suffix == ".jpg"
