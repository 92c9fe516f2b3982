"""Finds a Python hook by its dotted path, calls it with the arguments that it takes, and answers for it.

The exit code is the verdict: 0 passed, 100 returned False, 1 an error, told on standard error; its last line
says what it was.
"""

import difflib
import importlib
import inspect
import json
import os
import sys
import traceback
from types import MappingProxyType, ModuleType
from typing import Any

PASSED, FAILED, RETURNED_FALSE = 0, 1, 100


class Watcher:
    """A read-only picture of the watcher, as it was when the hook was started."""

    def __init__(self, facts: "dict[str, Any]", env: "dict[str, str]") -> None:
        self.__dict__.update({k: _frozen(v) for k, v in facts.items()}, env=MappingProxyType(env))

    def __setattr__(self, name: str, value: object) -> None:
        msg = f"a hook cannot change watcher.{name}: edit the spec, or use arbiter"
        raise AttributeError(msg)

    def __repr__(self) -> str:
        return f"<Watcher {self.__dict__['name']}>"


class ResolveError(Exception):
    """The dotted path of a hook leads nowhere; says at which part, and what is near."""


def main() -> int:
    """Run the hook named on the command line and return its verdict."""
    dotted = sys.argv[1]
    # The folder of the program must not shadow the hook's modules; the watcher's own folder is where they are.
    sys.path[0] = os.getcwd()
    try:
        hook = resolve(dotted)
    except ResolveError as error:
        print(error, file=sys.stderr)
        return FAILED
    arguments = json.loads(os.environ["RECONCILE_HOOK_ARGUMENTS"])
    watcher = Watcher(arguments.pop("watcher"), dict(os.environ))
    arbiter = sys.modules["_reconcile_hook_client"].Arbiter(os.environ["RECONCILE_CONTROL_SOCKET"])
    arguments.update(watcher=watcher, arbiter=arbiter)
    try:
        result = outcome(call(hook, arguments), arguments)
    except Exception:
        traceback.print_exc()
        return FAILED
    return RETURNED_FALSE if result is not None and not result else PASSED


def call(hook: Any, arguments: "dict[str, Any]") -> Any:  # noqa: ANN401  (whatever it returns)
    """Call a hook with those arguments that it takes; those before a `/` by their place.

    All of them when it ends in `**details`. Hooks of Circus are often written with the three arguments that it
    gives to most, and no more.
    """
    given = dict(arguments)
    try:
        parameters = inspect.signature(hook).parameters
    except (TypeError, ValueError):  # some callables made in C do not say
        return hook(**given)
    kinds = {name: each.kind for name, each in parameters.items()}
    if inspect.Parameter.VAR_KEYWORD not in kinds.values():
        given = {name: value for name, value in given.items() if name in kinds}
    placed = [name for name in kinds if kinds[name] is inspect.Parameter.POSITIONAL_ONLY]
    return hook(*[given.pop(name) for name in placed if name in given], **given)


def outcome(result: Any, arguments: "dict[str, Any]") -> Any:  # noqa: ANN401
    """Return what a hook says in the end: one that only began to run has said nothing yet.

    What `async def` makes is waited for, and an instance that is made to be called is called. Raises `TypeError`
    for a generator, of which nothing has run.
    """
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise TypeError(
            "a hook cannot be a generator: nothing in a function with yield has run yet"
        )
    if inspect.isawaitable(result):
        import asyncio  # takes longer than most hooks

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(result)
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    if callable(result):
        return outcome(call(result, arguments), arguments)
    return result


def resolve(dotted: str) -> Any:  # noqa: ANN401  (a callable of the user's)
    """Return the callable at a dotted path. Raises `ResolveError`."""
    parts = dotted.split(".")
    module, rest = _import_longest(dotted, parts)
    found: Any = module
    for index, part in enumerate(rest):
        if not hasattr(found, part):
            where = ".".join(parts[: len(parts) - len(rest) + index])
            raise ResolveError(
                f"cannot find hook {dotted}: {where} has no '{part}'{_near(part, found)}"
            )
        found = getattr(found, part)
    if not callable(found):
        raise ResolveError(
            f"cannot call hook {dotted}: it is {type(found).__name__}, not a function"
        )
    return found


def _import_longest(dotted: str, parts: "list[str]") -> "tuple[ModuleType, list[str]]":
    """Import as much of the path as is modules; the rest are attributes."""
    module = None
    for index in range(1, len(parts) + 1):
        name = ".".join(parts[:index])
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                _import_failed(dotted, name)
            if module is None:
                raise ResolveError(
                    f"cannot import hook {dotted}: no module named '{name}', "
                    f"looked in {os.getcwd()} and the Python path"
                ) from None
            return module, parts[index - 1 :]
        except Exception:
            _import_failed(dotted, name)
    assert module is not None
    return module, []


def _import_failed(dotted: str, module: str) -> None:
    """Tell that a module raised while it was imported, below its own traceback."""
    frames = traceback.format_exc()
    cause = frames.strip().rpartition("\n")[2]
    raise ResolveError(
        f"{frames}cannot import hook {dotted}: module {module} raised {cause}"
    ) from None


def _near(part: str, found: object) -> str:
    names = [name for name in dir(found) if not name.startswith("_")]
    close = difflib.get_close_matches(part, names, 3)
    if close:
        return f", but {', '.join(repr(name) for name in close)}"
    return f"; it has {', '.join(names[:10])}" if names else ""


def _frozen(value: Any) -> Any:  # noqa: ANN401  (JSON)
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(item) for key, item in value.items()})
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value
