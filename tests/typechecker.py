"""The type checker of the tests: beartype enforces jaxtyping's annotations, and all others, in all of kiss3d.

An int may stand where a float is asked for, as everywhere in Python. jaxtyping's own decorator is not used: it compiles
four functions for each one when it is defined, which are fifteen seconds in every process, and binds the arguments of
every call. Here a function's checks are compiled when it is first called, and names of shapes cost only where there are
shapes.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install() -> None:
    """Check every function and dataclass of kiss3d that is imported from now on."""
    jaxtyping.install_import_hook("kiss3d_cli", "typechecker.check")
    jaxtyping.jaxtyped = _decorate  # the hook decorates with whatever has this name


_context = functools.partial(jaxtyping.jaxtyped, "context")


def _decorate(fn: Any = None, /, **_typechecker: Any) -> Any:
    if fn is None:
        return _decorate
    if inspect.isclass(fn):
        if "__dataclass_fields__" in vars(fn) and "__init__" in vars(fn):
            fn.__init__ = _at_first_call(fn.__init__)
        return fn
    assert inspect.isfunction(fn), "the hook decorates below all other decorators"
    return _at_first_call(fn)


def _at_first_call(fn: Callable[..., Any]) -> Callable[..., Any]:
    checked: Callable[..., Any] | None = None

    @functools.wraps(fn)
    def call(*arguments: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        nonlocal checked
        if checked is None:
            checked = _checked(fn)
        return checked(*arguments, **named)

    return call


def _checked(fn: types.FunctionType) -> Callable[..., Any]:
    copy = types.FunctionType(fn.__code__, fn.__globals__, fn.__name__, fn.__defaults__, fn.__closure__)
    copy.__kwdefaults__, copy.__qualname__, copy.__module__ = fn.__kwdefaults__, fn.__qualname__, fn.__module__
    copy.__annotations__ = {name: _resolved(hint, fn.__globals__) for name, hint in fn.__annotations__.items()}
    within = check(copy)
    if "jaxtyping" not in repr(list(copy.__annotations__.values())):
        return within
    if inspect.isgeneratorfunction(fn):
        return _generated(within)

    def call(*arguments: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        with _context():
            return within(*arguments, **named)

    return call


def _generated(within: Callable[..., Any]) -> Callable[..., Any]:
    """A generator's arguments are checked at its first step: that has names of shapes of its own."""

    def call(*arguments: Any, **named: Any) -> Any:
        __tracebackhide__ = True
        generator = within(*arguments, **named)
        try:
            with _context():
                value = next(generator)
            while True:
                try:
                    sent = yield value
                except GeneratorExit:
                    generator.close()
                    raise
                except BaseException as error:
                    value = generator.throw(error)
                else:
                    value = generator.send(sent)
        except StopIteration as end:
            return end.value

    return call


def _resolved(hint: Any, names: dict[str, Any]) -> Any:
    """The annotation itself; anything, where it names what only type checkers import."""

    def holder() -> None: ...

    holder.__annotations__ = {"value": hint}
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["value"]
    except Exception:
        return Any
