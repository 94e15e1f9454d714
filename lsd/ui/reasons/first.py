"""What the units look like that the tab opens on, drawn beforehand and shipped, so that nobody waits for them.

    python -m lsd.ui.reasons.first [--output FILE]

draws them again. That is due whenever the first model or picture, the way of finding reasons, or the recipe have changed: until
then they are drawn when the page starts, and a test fails.
"""

import argparse
import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from lsd.errors import LSDError
from lsd.models import ImageModel, get_model
from lsd.provenance import write_files
from lsd.ui.reasons.request import Wish, request_of
from lsd.ui.reasons.run import ask, begun
from lsd.ui.reasons.session import Run
from lsd.ui.shared.controls import default_example
from lsd.ui.shared.examples import examples
from lsd.ui.shared.unit_pictures import SHIPPED, draw, file_name, in_gallery


def opens_on() -> tuple[Run, ImageModel, list[str]]:
    """What the tab opens on, answered; its model; and the units of both views that the gallery has no picture of.

    Raises:
        LSDError: the model has no answer.
    """
    wish = Wish()
    run = begun(request_of(wish, examples()[default_example(wish.models)]))
    for _ in ask(run, lambda model, units: {}, lambda name, content: name):
        pass
    for trouble in run.troubles.values():
        raise LSDError(trouble)
    (account,) = run.accounts.values()
    model = get_model(account.model)
    units = [one.reason.unit for one in (*account.groups, *account.channels, *account.against)]
    there = in_gallery(model, units)
    return run, model, [unit for unit in units if unit not in there]


def packed(model: ImageModel, pictures: Mapping[str, bytes]) -> bytes:
    """Pictures by unit as the file that is shipped."""
    data = io.BytesIO()
    with zipfile.ZipFile(
        data, "w"
    ) as archive:  # in a fixed order and with a fixed date: the same pictures, the same file
        for name, content in sorted((file_name(model, unit), content) for unit, content in pictures.items()):
            archive.writestr(zipfile.ZipInfo(name), content)
    return data.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, draw, write."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m lsd.ui.reasons.first", description=__doc__.split("\n")[0])
    parser.add_argument(
        "--output", type=Path, default=SHIPPED, metavar="FILE", help="default: where the page looks for it"
    )
    output = parser.parse_args(arguments).output
    os.environ.pop("LSD_MODEL_PATH", None)  # with the networks that everybody has
    torch.set_num_threads(1)  # as many as every machine has: another number changes the last bits
    _, model, units = opens_on()
    pictures: dict[str, bytes] = {}
    for made, finished in draw(model, units):
        pictures |= made if finished else {}
    data = packed(model, pictures)
    write_files(output.parent, {output.name: data})
    print(f"{output}: {len(pictures)} pictures of {model.name}, {len(data) / 1000:.0f} KB")


if __name__ == "__main__":
    main()
