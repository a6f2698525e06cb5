"""What a detector found, drawn: a picture each, and sheets of all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from caffe_scnn.detect.drawing import contact_sheets, draw_detections, write_picture
from caffe_scnn.detect.many import Result
from caffe_scnn.detect.picture import Picture, read_picture


def write_album(
    results: Sequence[Result],
    classes: Sequence[str],
    folder: Path,
    above: float,
    advance: Callable[[int], None],
) -> None:
    """Write ``pictures/NAME.jpg`` for each picture and ``sheet-1.jpg`` … for all of them.

    Parameters
    ----------
    results : sequence of Result
    classes : sequence of str
    folder : Path
        An existing folder.
    above : float
        Detections with a lower score are not drawn.
    advance : callable
        Called with 1 after each picture.

    Raises
    ------
    OutputError
        The place cannot be written.
    """
    place = folder / "pictures"
    with suppress(OSError):  # the message comes from write_picture
        place.mkdir(exist_ok=True)

    def drawn() -> Iterator[tuple[str, Picture]]:
        for result in results:
            found = result.found.keep(result.found.scores >= above)
            picture = read_picture(result.path)
            shown = draw_detections(picture, classes, found.labels, found.scores, found.boxes)
            write_picture(place / f"{result.name}.jpg", shown)
            advance(1)
            yield f"{result.name}: {len(found)}", shown

    for number, sheet in enumerate(contact_sheets(drawn()), start=1):
        write_picture(folder / f"sheet-{number}.jpg", sheet)
