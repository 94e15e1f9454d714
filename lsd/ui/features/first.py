"""What the tab opens on: what it would make by itself, made beforehand and shipped, so that no model has to run.

    python -m lsd.ui.features.first [--output FILE]

makes it again, in the time of a run of the tab. That is due whenever the tab's first model, class, recipe, steps or seeds
have changed: until then the tab opens without a picture, and a test fails.
"""

import argparse
import logging
import os
import time
from pathlib import Path

from lsd.errors import LSDError
from lsd.features.bundle import Request
from lsd.packages import PACKAGES
from lsd.provenance import write_files
from lsd.ui.features import request as requests
from lsd.ui.features.record import from_bytes, to_bytes
from lsd.ui.features.runs import Session, advance
from lsd.ui.features.texts import agreement, summary
from lsd.weights import locate

FILE = Path(__file__).with_name("first_ascent.zip")

log = logging.getLogger("lsd")


def shipped(file: Path = FILE) -> Session | None:
    """The session in the file, if it is what the tab would make by itself; else None, and the log says why."""
    wish = requests.default_wish()
    try:
        name = next(iter(wish.models), None)
        package = PACKAGES.get(name)
        if package is None or locate(name).source != "package":  # whose weights are known without reading them
            raise LSDError(f"nothing was made beforehand with {name}, which comes first here.")
        session = from_bytes(file.read_bytes())
        (lane,) = session.lanes
        if lane.request != Request(name, (wish.unit,), tuple(range(wish.seeds)), wish.cooking.recipe()):
            raise LSDError("what was made beforehand is not what the tab's controls say by themselves.")
        if session.manifest["weights"]["digest"] != package.digest:
            raise LSDError(f"what was made beforehand was made with other weights of {name}.")
    except (LSDError, OSError) as error:
        log.warning("Feature visualization opens without a picture: %s", error)
        return None
    return session


def make() -> bytes:
    """Run what the tab's controls say by themselves, as the tab runs it, and return the file's bytes; prints how far it is.

    Raises:
        LSDError: a network is not there.
    """
    models = {}
    for step in requests.prepare(requests.default_wish(), models):
        if isinstance(step, str):
            print(step, flush=True)
        else:
            session = step
    started, kept = time.perf_counter(), {}
    for lane in advance(session, models):
        if lane.frames[-1][0] == lane.step:
            kept[lane.step] = lane.live
    session.seconds = time.perf_counter() - started
    for name in requests.ask(session, models):
        print(f"Asking {name} …", flush=True)
    print(summary(session), agreement(session.lanes[0]))
    return to_bytes(session, kept, models[session.lanes[0].request.model])


def main() -> None:
    """Read the command line, make it, write it."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m lsd.ui.features.first", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=FILE, metavar="FILE", help="default: where the tab looks for it")
    output = parser.parse_args().output
    os.environ.pop("LSD_MODEL_PATH", None)  # with the networks that everybody has
    torch.set_num_threads(1)  # as many as every machine has: another number changes the last bits
    data = make()
    write_files(output.parent, {output.name: data})
    print(f"{output}: {len(data) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
