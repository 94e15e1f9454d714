"""Gradio without the stubs that it writes for editors: at every start it reads its own source anew for them, and that is almost
half of the time that importing it takes (1.4 of 3.3 s)."""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def without_stubs() -> Iterator[None]:
    """Within the block Gradio is imported without writing stubs: it writes none for a component that has no source file."""
    getfile = inspect.getfile

    def of_no_component(thing: Any) -> str:
        if type(thing).__name__ == "ComponentMeta":
            raise OSError("it is taken for a component without a source file")
        return getfile(thing)

    inspect.getfile = of_no_component
    try:
        yield
    finally:
        inspect.getfile = getfile
