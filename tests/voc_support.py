"""Makes small VOCdevkits and result folders."""

from __future__ import annotations

from pathlib import Path

OBJECT = """
  <object>
    <name>{name}</name>{extra}
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox>
  </object>"""


def an_object(name, box, *, difficult=False):
    extra = "\n    <difficult>1</difficult>" if difficult else ""
    return OBJECT.format(*box, name=name, extra=extra)


def make_devkit(root: Path, images: dict[str, list[str]], year: int = 2007) -> Path:
    """Write a devkit whose set ``test`` is all images; image id → objects (XML)."""
    folder = root / f"VOC{year}"
    (folder / "ImageSets" / "Main").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    (folder / "ImageSets" / "Main" / "test.txt").write_text("".join(f"{i}\n" for i in images))
    for image, objects in images.items():
        text = f"<annotation>{''.join(objects)}\n</annotation>\n"
        (folder / "Annotations" / f"{image}.xml").write_text(text)
    return root


def make_results(folder: Path, results: dict[str, str], competition: str = "comp4") -> Path:
    """Write result files of the set ``test``; class → lines."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in results.items():
        (folder / f"{competition}_det_test_{name}.txt").write_text(lines)
    return folder
