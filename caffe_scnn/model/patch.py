"""The smallest edits of a prototxt that make it say what a changed protobuf message says.

A message's text is compared with the message: values that differ are replaced where they stand,
new fields get a line beside their neighbours (or a place on the same line, where the message is
written on one), removed fields take their line with them. Everything else, comments and fields
of unknown forks included, keeps its bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as Proto

from caffe_scnn.model.edits import Edit, insert_after, insert_before, remove
from caffe_scnn.model.messages import fields_of
from caffe_scnn.model.printing import Layout, elements, print_lines
from caffe_scnn.model.prototxt import Field, Message, Scalar
from caffe_scnn.model.scalars import format_scalar


class Place(NamedTuple):
    """One value in the tree, with the field it stands in."""

    field: Field
    value: Scalar | Message


class Insertion(NamedTuple):
    """Lines for a new value of a field, and the old values between which they belong."""

    field: FieldDescriptor
    lines: list[str]
    after: Field | None
    before: Field | None
    inline: bool


def patch(message: Message, old: Proto, new: Proto, layout: Layout) -> list[Edit]:
    """Return the edits that turn the text of ``old`` into one of ``new``.

    Parameters
    ----------
    message : Message
        The tree of the text.
    old : protobuf message
        What the tree says (:func:`caffe_scnn.model.messages.fill`).
    new : protobuf message
        What it is to say; of the same type.
    layout : Layout
        How new text is written.
    """
    rewriter = Rewriter(message, layout)
    rewriter.compare(old, new)
    return rewriter.edits()


class Rewriter:
    """Collects what happens to the fields of one message, then turns it into edits."""

    def __init__(self, message: Message, layout: Layout) -> None:
        self.message = message
        self.layout = layout
        self._changes: list[Edit] = []
        self._removed: set[Field] = set()
        self._inserted: list[Insertion] = []

    def places(self, name: str) -> list[Place]:
        """Return the values of a field in the tree, in file order."""
        fields = self.message.named(name)
        return [Place(field, value) for field in fields for value in field.values]

    def compare(self, old: Proto, new: Proto) -> None:
        """Note all differences between two messages."""
        for field in fields_of(new.DESCRIPTOR).values():
            self._compare_field(field, elements(old, field), elements(new, field))

    def _compare_field(
        self, field: FieldDescriptor, old: Sequence[Any], new: Sequence[Any]
    ) -> None:
        before = [_key(value, field) for value in old]
        after = [_key(value, field) for value in new]
        if before == after:
            return
        found = self.places(field.name) if old else []

        def change(i: int, j: int) -> None:
            self._change(found[i], field, old[i], new[j])

        if any(place.field.listed for place in found):
            if len(old) != len(new):
                self._rewrite_list(field, new)
                return
            for k, (one, other) in enumerate(zip(before, after, strict=True)):
                if one != other:
                    change(k, k)
            return

        def lines(j: int) -> list[str]:
            return list(print_lines(field.name, new[j], field, self.layout.indent))

        matcher = SequenceMatcher(None, before, after, autojunk=False)
        self.align(field, found, matcher.get_opcodes(), lines, change)

    def align(
        self,
        field: FieldDescriptor,
        found: Sequence[Place],
        opcodes: Sequence[tuple[str, int, int, int, int]],
        lines: Callable[[int], list[str]],
        change: Callable[[int, int], None] | None = None,
    ) -> None:
        """Note which values of a field come and go.

        Parameters
        ----------
        field : FieldDescriptor
            The field.
        found : sequence of Place
            Its values in the tree.
        opcodes : sequence of (tag, i, i_end, j, j_end)
            How the new values follow from those found, as difflib puts it.
        lines : function
            The text of the j-th new value.
        change : function, optional
            Turns the i-th old value into the j-th new one, where one takes the other's place.
            Without it, values are only removed and inserted, always on lines of their own.
        """
        for tag, i, i_end, j, j_end in opcodes:
            if tag == "equal":
                continue
            while change and i < i_end and j < j_end:
                change(i, j)
                i, j = i + 1, j + 1
            self._removed.update(place.field for place in found[i:i_end])
            after = found[i - 1].field if i else None
            before = found[i_end].field if i_end < len(found) else None
            self._inserted += [
                Insertion(field, lines(k), after, before, change is not None)
                for k in range(j, j_end)
            ]

    def add(self, edits: Sequence[Edit]) -> None:
        """Take over edits made elsewhere inside the message."""
        self._changes += edits

    def drop(self, names: Iterable[str]) -> None:
        """Note that all fields of these names go."""
        self._removed.update(field for name in names for field in self.message.named(name))

    def _change(self, place: Place, field: FieldDescriptor, old: Any, new: Any) -> None:
        """Replace one value where it stands."""
        value = place.value
        if isinstance(value, Message):
            self._changes += patch(value, old, new, self.layout)
        else:
            self._changes.append(Edit(value.start, value.end, format_scalar(new, field)))

    def _rewrite_list(self, field: FieldDescriptor, new: Sequence[Any]) -> None:
        """Write a field of the form ``[a, b]`` anew."""
        fields = list(self.message.named(field.name))
        self._removed.update(fields[1:] if new else fields)
        if not new:
            return
        if field.message_type is None:
            text = f"{field.name}: [{', '.join(format_scalar(value, field) for value in new)}]"
        else:
            lines = [line for value in new for line in print_lines(field.name, value, field, "")]
            text = " ".join(lines)
        self._changes.append(Edit(fields[0].start, fields[0].end, text))

    def edits(self) -> list[Edit]:
        """Return all edits of this message and of those inside."""
        removals = remove(self.message, self._removed)
        return [*self._changes, *removals, *(self._insert(new) for new in self._inserted)]

    def _insert(self, new: Insertion) -> Edit:
        where = (self.layout, new.inline)
        gap = [""] if self.layout.spaced and not new.inline else []
        neighbour = self._neighbour(new.field)
        if new.after and new.after not in self._removed:
            neighbour = new.after
        elif new.before and (not neighbour or neighbour.start > new.before.start):
            return insert_before(self.message, new.before.start, new.lines + gap, *where)
        if neighbour:
            return insert_after(self.message, neighbour.end, gap + new.lines, *where)
        if self.message is self.message.document.root and self.message.fields:
            return insert_before(self.message, self.message.fields[0].start, new.lines, *where)
        return insert_after(self.message, self.message.body, new.lines, *where)

    def _neighbour(self, field: FieldDescriptor) -> Field | None:
        """Return the field after which a new one belongs by the schema's order."""
        known = fields_of(field.containing_type)
        earlier = [
            (known[other.name].number, other.start, other)
            for other in self.message.fields
            if other.name in known
            and known[other.name].number < field.number
            and other not in self._removed
        ]
        return max(earlier, key=lambda item: item[:2])[2] if earlier else None


def _key(value: Any, field: FieldDescriptor) -> Hashable:
    """Return what tells values of a field apart (a NaN equals itself, unlike with ``==``)."""
    if field.message_type is None:
        return format_scalar(value, field)
    return bytes(value.SerializeToString(deterministic=True))
