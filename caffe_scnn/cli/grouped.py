"""Options that belong together arrive in a command as one value."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def grouped(name: str, make: Callable[..., Any], *parameters: Decorator) -> Decorator:
    """Decorate a command with click parameters that are handed to it as one argument.

    Parameters
    ----------
    name : str
        The command's argument.
    make : callable
        Called with the parameters' values by name; what it returns is the argument.
    parameters
        ``click.option(…)`` and ``click.argument(…)`` decorators, in the order of ``--help``.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        known: list[str] = []

        @functools.wraps(command)
        def collected(**values: Any) -> Any:
            own = {key: values.pop(key) for key in known}
            return command(**{name: make(**own)}, **values)

        decorated: Callable[..., Any] = collected
        before = len(_declared(decorated))
        for parameter in reversed(parameters):
            decorated = parameter(decorated)
        known += [parameter.name for parameter in _declared(decorated)[before:]]
        return decorated

    return decorate


def _declared(command: Callable[..., Any]) -> list[Any]:
    declared: list[Any] = getattr(command, "__click_params__", [])
    return declared
