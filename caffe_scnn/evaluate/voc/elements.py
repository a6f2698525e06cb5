"""XML elements that know their line: a message about an annotation must say where to look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from caffe_scnn.errors import FormatError


@dataclass(slots=True)
class Element:
    """An element without its attributes: its tag, line, own text and children."""

    tag: str
    line: int
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def child(self, tag: str) -> Element | None:
        """Return the first direct child of that tag; a part's ``bndbox`` is no child of ours."""
        return next(self.all(tag), None)

    def all(self, tag: str) -> Iterator[Element]:
        """Yield the direct children of that tag."""
        return (child for child in self.children if child.tag == tag)


def read_elements(path: Path) -> Element:
    """Read an XML file.

    Returns
    -------
    Element
        The outermost element; texts are without blanks around them.

    Raises
    ------
    FormatError
        Not well-formed XML, with line and column, or entities are declared: an annotation needs
        none, and they can make a small file fill the memory.
    OSError
        The file cannot be read.
    """
    top = Element("", 0)
    stack = [top]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        element = Element(tag, parser.CurrentLineNumber)
        stack[-1].children.append(element)
        stack.append(element)

    def end(tag: str) -> None:
        element = stack.pop()
        element.text = element.text.strip()

    def characters(text: str) -> None:
        stack[-1].text += text

    def entity(name: str, *rest: object) -> None:
        raise FormatError(
            f'declares the entity "{name}"; write its text in place of it',
            str(path),
            parser.CurrentLineNumber,
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.EntityDeclHandler = entity
    try:
        parser.Parse(path.read_bytes(), True)
    except expat.ExpatError as error:
        reason = expat.ErrorString(error.code)
        raise FormatError(
            f"not well-formed XML: {reason}", str(path), error.lineno, error.offset + 1
        ) from error
    except LookupError as error:  # an encoding that Python does not know
        raise FormatError(f"not readable XML: {error}", str(path), 1) from error
    return top.children[0]
