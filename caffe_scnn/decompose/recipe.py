"""What to do to a net, as a TOML file: the method, how small, which layers.

::

    method = "scnn"            # then its parameters, e.g. bases = "pca"
    density = 0.2              # or error = 0.1
    global = false             # one density for all layers together
    # or instead of a density what the whole net is to reach, one of:
    # macs = 0.5             # multiply-accumulates, over what they are
    # speedup = 3.0          # measured on this machine
    # size = "10MB"          # of packed blobs
    # max_drop = 1.0         # points on a check set; spare = "time", "macs" or "size"
    layers = ["conv*", "fire?/expand3x3"]
    seed = 0

    [layer."conv2"]            # other parameters, method, density or error for one layer
    q = 5
    density = 0.3

A layer with a table of its own is compressed even if ``layers`` does not name it. The resolved
recipe that compression returns has every default spelt out, the layers by name, and a ``[done]``
table with what came of each; reading it ignores ``[done]``, and running it gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from caffe_scnn.decompose.base import Decomposition, LayerReport, require
from caffe_scnn.decompose.costs import Resource
from caffe_scnn.decompose.methods import method_type, nearest
from caffe_scnn.decompose.scnn import Scnn
from caffe_scnn.errors import CaffeScnnError, FormatError
from caffe_scnn.model.atomic import atomic_write
from caffe_scnn.model.toml import parse_toml, read_toml

Value = bool | int | float | str | list[str]


@dataclass(frozen=True)
class Goal:
    """A method and how small it is to make a layer.

    Attributes
    ----------
    method : Decomposition
        The method with its parameters.
    density : float, optional
        Non-zeros written, over the layer's original weights. 1, or neither density nor error:
        nothing is made sparse.
    error : float, optional
        The largest relative weight error ``‖W − Ŵ‖ / ‖W‖``.
    """

    method: Decomposition = field(default_factory=Scnn)
    density: float | None = None
    error: float | None = None

    def __post_init__(self) -> None:
        density, error = self.density, self.error
        require(density is None or error is None, "give density or error, not both")
        require(density is None or 0 < density <= 1, f"density must be in (0, 1], not {density}")
        require(error is None or 0 <= error < 1, f"error must be in [0, 1), not {error}")

    @property
    def dense(self) -> bool:
        """Nothing is to be made sparse."""
        return self.error is None and self.density in (None, 1)


@dataclass(frozen=True)
class Recipe:
    """What to do to a net.

    Attributes
    ----------
    goal_of_all : Goal
        For the layers without a goal of their own.
    across_layers : bool
        The density holds for the layers together: non-zeros go where they keep the largest
        fraction of a layer's squared weights; ``global`` in the file.
    macs, speedup, size, max_drop : optional
        Instead of a density what the whole net is to reach, at most one: multiply-accumulates on
        non-zero weights as a fraction of what they were; times as fast as it was, measured;
        bytes of its packed blobs; percent points that may be lost on a check set. Every layer gets
        a method and density of its own.
    spare : {"time", "macs", "size"}
        What ``max_drop`` makes as small as it can.
    layers : tuple of str, optional
        Names or globs; None: all convolutions but the first and the depthwise ones.
    seed : int
        Of every random choice.
    overrides : mapping of str to Goal
        Goals of single layers, by name.
    done : tuple of LayerReport
        In a resolved recipe: what was done.
    """

    goal_of_all: Goal = field(default_factory=Goal)
    across_layers: bool = False
    macs: float | None = None
    speedup: float | None = None
    size: int | None = None
    max_drop: float | None = None
    spare: Resource = "time"
    layers: tuple[str, ...] | None = None
    seed: int = 0
    overrides: Mapping[str, Goal] = field(default_factory=dict)
    done: tuple[LayerReport, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        require(
            not self.across_layers or self.goal_of_all.density is not None,
            "a global budget needs a density",
        )
        goal = self.goal_of_all
        given = [name for name in TARGETS if getattr(self, name) is not None]
        require(len(given) < 2, f"give one target for the whole net, not {' and '.join(given)}")
        for name in given:
            require(
                goal.density is None and goal.error is None,
                f"give {name} for the whole net, or a density or error of layers, not both",
            )
            require(
                not self.overrides,
                f"{name} finds the size of every layer: layers have no tables of their own then",
            )
        self._require_ranges()
        require(self.layers is None or len(self.layers) > 0, "the list of layers is empty")
        require(0 <= self.seed < 2**32, f"seed must be in [0, 2^32), not {self.seed}")

    def _require_ranges(self) -> None:
        macs, speedup, size, drop = self.macs, self.speedup, self.size, self.max_drop
        require(macs is None or 0 < macs <= 1, f"macs must be in (0, 1], not {macs}")
        require(speedup is None or speedup > 1, f"speedup must be above 1, not {speedup}")
        require(size is None or size > 0, f"size must be positive, not {size}")
        require(drop is None or 0 <= drop < 100, f"max_drop must be in [0, 100) points, not {drop}")

    @property
    def searched(self) -> bool:
        """There is a target for the whole net: the sizes of its layers are to be found."""
        return any(getattr(self, name) is not None for name in TARGETS)

    @property
    def resource(self) -> Resource:
        """What the target of the whole net is about."""
        if self.max_drop is not None:
            return self.spare
        return "time" if self.speedup is not None else "size" if self.size is not None else "macs"

    def without_target(self) -> Recipe:
        """Return the same without a target for the whole net."""
        return dataclasses.replace(
            self, macs=None, speedup=None, size=None, max_drop=None, spare="time"
        )

    def goal(self, layer: str) -> Goal:
        """Return what is asked of a layer."""
        return self.overrides.get(layer, self.goal_of_all)

    @classmethod
    def read(cls, path: str | Path) -> Recipe:
        """Read a TOML file.

        Raises
        ------
        FormatError
            The file is not TOML, or has an unknown key or a value that does not fit.
        """
        return read_toml(path, cls.parse, "recipe")

    @classmethod
    def parse(cls, text: str) -> Recipe:
        """Read TOML text; :meth:`read` says what may go wrong."""
        table = parse_toml(text)
        table.pop("done", None)
        tables = _checked("layer", table.pop("layer", {}), dict[str, Any])
        settings = {key: table.pop(key) for key in _SETTINGS if key in table}
        layers = _checked("layers", settings.get("layers"), list[str] | None)
        goal = _goal(table, Goal(), extra=(*_SETTINGS, "layer"))
        return cls(
            goal_of_all=goal,
            across_layers=_checked("global", settings.get("global", False), bool),
            macs=_checked("macs", settings.get("macs"), float | None),
            speedup=_checked("speedup", settings.get("speedup"), float | None),
            size=_bytes(_checked("size", settings.get("size"), int | str | None)),
            max_drop=_checked("max_drop", settings.get("max_drop"), float | None),
            spare=_checked("spare", settings.get("spare", "time"), Resource),
            layers=None if layers is None else tuple(layers),
            seed=_checked("seed", settings.get("seed", 0), int),
            overrides={name: _override(name, table, goal) for name, table in tables.items()},
        )

    def text(self) -> str:
        """Return TOML that :meth:`parse` reads back as an equal recipe."""
        head = _goal_table(self.goal_of_all) | {
            "global": self.across_layers,
            **{name: getattr(self, name) for name in TARGETS},
            "spare": self.spare if self.max_drop is not None else None,
            "seed": self.seed,
        }
        if self.layers is not None:
            head["layers"] = list(self.layers)
        sections = [_toml(head)]
        for name, goal in self.overrides.items():
            # Spelt out, or reading would put the density of all layers in its place.
            own = dataclasses.replace(goal, density=1.0) if goal.dense else goal
            sections.append(f"[layer.{_quoted(name)}]\n{_toml(_goal_table(own))}")
        sections += [f"[done.{_quoted(report.layer)}]\n{_done(report)}" for report in self.done]
        return "\n".join(sections)

    def write(self, path: str | Path) -> None:
        """Write the TOML text."""
        with atomic_write(Path(path)) as file:
            file.write(self.text().encode())


TARGETS = ("macs", "speedup", "size", "max_drop")
_SETTINGS = ("global", *TARGETS, "spare", "layers", "seed")
UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def bytes_of(text: str) -> int:
    """Read a size such as ``10MB`` (10^6 bytes each), ``512 kB`` or a plain number of bytes.

    Raises
    ------
    CaffeScnnError
        Something else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?[bB])?\s*", text)
    require(match is not None, f'a size is a number and B, kB, MB or GB, not "{text}"')
    assert match is not None
    return round(float(match[1]) * UNITS[(match[2] or "B").upper()])


def _bytes(value: int | str | None) -> int | None:
    return bytes_of(value) if isinstance(value, str) else value


def _override(name: str, table: Any, default: Goal) -> Goal:
    try:
        return _goal(_checked(name, table, dict[str, Any]), default)
    except CaffeScnnError as error:
        raise FormatError(f"[layer.{_quoted(name)}]: {error}") from error


def _goal(table: Mapping[str, Any], default: Goal, extra: tuple[str, ...] = ()) -> Goal:
    """Read method, its parameters, density and error; what is not given comes from a default."""
    table = dict(table)
    name = _checked("method", table.pop("method", default.method.name), str)
    kind = method_type(name)
    size = {
        key: _checked(key, table.pop(key), float) for key in ("density", "error") if key in table
    }
    hints = get_type_hints(kind)
    known = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            hint = nearest(key, ["method", "density", "error", *known, *extra])
            raise FormatError(f'unknown key "{key}" for method "{name}"; {hint}')
    parameters = {key: _checked(key, value, hints[key]) for key, value in table.items()}
    if isinstance(default.method, kind):
        method = dataclasses.replace(default.method, **parameters)  # type: ignore[type-var]
    else:
        method = kind(**parameters)
    if not size:
        return Goal(method, default.density, default.error)
    return Goal(method, **size)


def _checked(key: str, value: Any, hint: Any) -> Any:
    """Return a value of the wanted type; an int will do for a float, True for no number."""
    options = get_args(hint) if get_origin(hint) not in (None, list, dict, Literal) else (hint,)
    for option in options:
        origin = get_origin(option) or option
        if origin is Literal and value in get_args(option):
            return value
        if origin is float and type(value) is int:
            return float(value)
        if origin is list and isinstance(value, list) and all(type(v) is str for v in value):
            return value
        if origin not in (Literal, list) and type(value) is origin:
            return value
    wanted = " or ".join(_described(option) for option in options if option is not NoneType)
    raise FormatError(f"{key} = {json.dumps(value, default=str)}: {wanted} is wanted")


def _described(option: Any) -> str:
    if get_origin(option) is Literal:
        return " or ".join(json.dumps(choice) for choice in get_args(option))
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string"}
    return names.get(option) or ("a list of strings" if get_origin(option) is list else "a table")


def _goal_table(goal: Goal) -> dict[str, Value | None]:
    return {
        "method": goal.method.name,
        "density": goal.density,
        "error": goal.error,
        **dataclasses.asdict(goal.method),  # type: ignore[call-overload]
    }


def _done(report: LayerReport) -> str:
    return _toml(
        {
            "method": report.method,
            "written": list(report.written),
            "density": report.density,
            "nonzeros": report.after.nonzeros,
            "macs": report.after.macs,
            "weight_error": report.weight_error,
            "response_error": report.response_error,
        }
    )


def _toml(table: Mapping[str, Value | None]) -> str:
    """Print key = value lines; JSON's strings, numbers, booleans and lists are TOML's too."""
    lines = [
        f"{key} = {json.dumps(v, ensure_ascii=False)}\n"
        for key, v in table.items()
        if v is not None
    ]
    return "".join(lines)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)
