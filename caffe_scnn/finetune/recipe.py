"""How a net is to be fine-tuned, as a TOML file.

::

    method = "gradual"         # then its parameters
    density = 0.2
    layers = ["conv*/pw"]      # that the method works on
    seed = 0

    [train]
    epochs = 20
    learning_rate = 0.001

    [goals]
    responses = ["conv4_*"]

    [augment]
    mirror = true

Everything has a default; the recipe that is written beside a trained model spells all out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from caffe_scnn.decompose.base import require
from caffe_scnn.errors import FormatError
from caffe_scnn.finetune.data import Augmentation
from caffe_scnn.finetune.methods import Method, finetune_method
from caffe_scnn.finetune.methods.keep import Keep
from caffe_scnn.finetune.objective import Goals
from caffe_scnn.finetune.schedule import Training
from caffe_scnn.model.toml import parse_toml, read_toml

SECTIONS: dict[str, type[Any]] = {"train": Training, "goals": Goals, "augment": Augmentation}


@dataclass(frozen=True)
class FinetuneRecipe:
    """How a net is to be fine-tuned.

    Attributes
    ----------
    method : Method
        What keeps it small, or makes it so.
    layers : tuple of str, optional
        Names or globs of the layers that the method works on; its own choice by default. All
        layers are trained.
    seed : int
        Of every random choice.
    train, goals, augment
        How long and how fast, what is minimised, how images are changed.
    """

    method: Method = field(default_factory=Keep)
    layers: tuple[str, ...] | None = None
    seed: int = 0
    train: Training = field(default_factory=Training)
    goals: Goals = field(default_factory=Goals)
    augment: Augmentation = field(default_factory=Augmentation)

    def __post_init__(self) -> None:
        require(self.layers is None or len(self.layers) > 0, "the list of layers is empty")
        require(0 <= self.seed < 2**32, f"seed must be in [0, 2^32), not {self.seed}")

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a TOML file.

        Raises
        ------
        FormatError
            The file is not TOML, or has an unknown key or a value that does not fit.
        """
        return read_toml(path, cls.parse, "recipe")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read TOML text; :meth:`read` says what may go wrong."""
        table = parse_toml(text)
        sections = {
            name: _make(kind, _taken(table, name, dict, {}), f"[{name}] ")
            for name, kind in SECTIONS.items()
        }
        layers = _taken(table, "layers", list, None)
        require(layers is None or all(isinstance(name, str) for name in layers), "layers are names")
        seed = _taken(table, "seed", int, 0)
        kind = finetune_method(_taken(table, "method", str, Keep.name))
        method = _make(kind, table, "", ("method", "layers", "seed", *SECTIONS))
        return cls(method, None if layers is None else tuple(layers), seed, **sections)

    def text(self) -> str:
        """Return TOML that :meth:`parse` reads back as an equal recipe."""
        head = {"method": self.method.name, **_values(self.method), "seed": self.seed}
        if self.layers is not None:
            head["layers"] = self.layers
        parts = [_toml(head)]
        parts += [f"[{name}]\n{_toml(_values(getattr(self, name)))}" for name in SECTIONS]
        return "\n".join(parts)


def _taken(table: dict[str, Any], key: str, kind: type, default: Any) -> Any:
    value = table.pop(key, default)
    if value is not default and (not isinstance(value, kind) or isinstance(value, bool)):
        raise FormatError(f"{key} must be {_name(kind)}, not {value!r}")
    return value


def _make(
    kind: type[Any], table: Mapping[str, Any], where: str, extra: tuple[str, ...] = ()
) -> Any:
    """Make a dataclass of a table."""
    hints = get_type_hints(kind)
    known = [setting.name for setting in fields(kind)]
    for key in table:
        if key not in known:
            close = get_close_matches(key, [*known, *extra], 1)
            hint = f'did you mean "{close[0]}"?' if close else f"known are {', '.join(known)}"
            raise FormatError(f'{where}unknown key "{key}"; {hint}')
    return kind(**{key: _fitted(f"{where}{key}", table[key], hints[key]) for key in table})


def _fitted(key: str, value: Any, hint: Any) -> Any:
    """Bring a TOML value to a field's type."""
    choices = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    for choice in choices:
        origin = get_origin(choice)
        if origin is Literal and value in get_args(choice):
            return value
        if origin is Mapping and isinstance(value, dict):
            entry = get_args(choice)[1]
            return {name: _fitted(f"{key}.{name}", item, entry) for name, item in value.items()}
        if origin is tuple and isinstance(value, list):
            return tuple(_fitted(key, item, get_args(choice)[0]) for item in value)
        if choice is float and type(value) in (int, float):
            return float(value)
        if choice in (bool, int, str) and type(value) is choice:
            return value
    raise FormatError(f"{key} must be {' or '.join(map(_name, choices))}, not {value!r}")


def _name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(json.dumps(word) for word in get_args(hint))
    if hint in (list, tuple) or get_origin(hint) is tuple:
        return "a list"
    if get_origin(hint) is Mapping:
        return "a table"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
    return names.get(hint, "left out" if hint is NoneType else str(hint))


def _values(settings: Any) -> dict[str, Any]:
    return {setting.name: getattr(settings, setting.name) for setting in fields(settings)}


def _toml(table: Mapping[str, Any]) -> str:
    return "".join(f"{key} = {_literal(v)}\n" for key, v in table.items() if v is not None)


def _literal(value: Any) -> str:
    """Write a simple value: JSON's numbers, strings and arrays are TOML's too."""
    if isinstance(value, Mapping):
        entries = (f"{_literal(key)} = {_literal(item)}" for key, item in value.items())
        return f"{{ {', '.join(entries)} }}"
    return json.dumps(value, ensure_ascii=False)
