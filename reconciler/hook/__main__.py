"""Run as `python PATH package.module.function`. Nothing here is newer than Python 2.7 can read."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType  # noqa: F401  (a comment names it)

OLDEST = (3, 6)


def main():  # type: () -> int
    """Run the hook, or say in a line that this interpreter cannot."""
    if sys.version_info < OLDEST:  # the interpreter is that of the hook's virtualenv
        words = (sys.executable, sys.version_info[0], sys.version_info[1])
        sys.stderr.write("hooks need Python 3.6 or newer, %s is %d.%d\n" % words)
        return 1
    load("client.py")
    return int(load("runner.py").main())


def load(name):  # type: (str) -> ModuleType
    """Import a file beside this one under a name that no module of a hook has."""
    import importlib.util
    import os

    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), name)
    spec = importlib.util.spec_from_file_location("_reconcile_hook_" + name[:-3], path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
