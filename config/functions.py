"""Python functions that a configuration names as `module:name`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from config.faults import Finding, Place


class FunctionError(Exception):
    """The name leads to no such function: `problem` with `got`, and the functions that the module does have."""

    def __init__(self, problem: str, got: str, among: tuple[str, ...] | None = None) -> None:
        super().__init__(f"{problem} {got}")
        self.problem = problem
        self.got = got
        self.among = among


def load_function(reference: str) -> Callable[..., Any]:
    """The function at `module:name`. Imports the module. Raises FunctionError."""
    module_name, _, name = reference.partition(":")
    if not (module_name and name):
        raise FunctionError("expected module:name, unlike", reference)
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        raise FunctionError("no module", error.name or module_name) from error
    except Exception as error:
        raise FunctionError(f"importing it fails with {type(error).__name__}:", module_name) from error
    function: object = getattr(module, name, None)
    if not callable(function):
        own = (key for key, value in vars(module).items() if getattr(value, "__module__", None) == module.__name__)
        among = tuple(key for key in own if callable(getattr(module, key)) and not key.startswith("_"))
        raise FunctionError("unknown function", name, among)
    return function


def check_function(
    place: Place, reference: str, parameters: int | None = None, *, awaited: bool = False
) -> Iterator[Finding]:
    """The function exists and, where said, takes that many values and is async."""
    try:
        function = load_function(reference)
    except FunctionError as error:
        yield Finding(place, error.problem, error.got, error.among)
        return
    if parameters is not None and not takes(function, parameters):
        plural = "" if parameters == 1 else "s"
        yield Finding(place, f"expected a function of {parameters} parameter{plural}, unlike", reference)
    if awaited and not is_async(function):
        yield Finding(place, "expected an async function, unlike", reference)


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether it can be called with that many positional arguments. Built-ins without a signature: assumed so."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def is_async(function: Callable[..., Any]) -> bool:
    """A coroutine function, or an object that is called as one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
