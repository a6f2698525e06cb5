"""Command-line options made from the fields of the decomposition methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

from caffe_scnn.cli.grouped import Decorator
from caffe_scnn.decompose import METHODS, Decomposition


def method_options() -> list[Decorator]:
    """Return an option for every field of every method; fields of one name share the option."""
    takers: dict[str, list[type[Decomposition]]] = {}
    for method in METHODS:
        for name in parameter_names(method):
            takers.setdefault(name, []).append(method)
    return [_option(name, methods) for name, methods in takers.items()]


def parameter_names(method: type[Decomposition]) -> list[str]:
    """Return the names of a method's parameters."""
    return [field.name for field in _fields(method)]


def _fields(method: type[Decomposition]) -> tuple[Field[Any], ...]:
    return fields(method)  # type: ignore[arg-type]


def _option(name: str, methods: list[type[Decomposition]]) -> Decorator:
    field = next(field for field in _fields(methods[0]) if field.name == name)
    flag = name.replace("_", "-")
    kind = _kind(get_type_hints(methods[0])[name])
    names = ", ".join(method.name for method in methods)
    text = f"({names}) {field.metadata['help']} [{_defaults(name, methods)}]"
    if kind is bool:
        return click.option(f"--{flag}/--no-{flag}", name, default=None, help=text)
    return click.option(f"--{flag}", name, type=kind, default=None, help=text)


def _defaults(name: str, methods: list[type[Decomposition]]) -> str:
    """Say what a parameter is by default, method by method where they differ."""
    found = {
        method.name: field.default
        for method in methods
        for field in _fields(method)
        if field.name == name
    }
    if len(set(found.values())) == 1:
        return str(next(iter(found.values())))
    return ", ".join(f"{method}: {default}" for method, default in found.items())


def _kind(hint: Any) -> Any:
    """Turn a field's type into what click takes: plain types, ``Literal``, ``int | Literal``."""
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint))
    words = [word for part in get_args(hint) for word in get_args(part)]
    if words:
        return _number_or(words)
    return hint


def _number_or(words: list[str]) -> Callable[[str], int | str]:
    """Return a converter to an integer or one of a few words."""

    def convert(text: str) -> int | str:
        try:
            return text if text in words else int(text)
        except ValueError:
            wanted = " or ".join(["an integer", *words])
            raise click.BadParameter(f"{text!r} is not {wanted}") from None

    convert.__name__ = "|".join(["integer", *words])
    return convert
