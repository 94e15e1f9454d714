"""Photos that are at hand everywhere and show something that ImageNet has a class for.

They are among the example photos (`lsd.images.example_images`). Each was labelled by hand, by what its photographer says it
is and by what can be seen in it, before any network was asked; those that show nothing of ImageNet's were left out, since
a dahlia is no daisy and a launcher of satellites no missile. ImageNet's classes overlap: where several fit, the label is one
of them.
"""

from dataclasses import dataclass
from pathlib import Path

from lsd.images import example_images

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Photo:
    """A photo with its class.

    Attributes:
        name: unique.
        example: what the photo, or that which it is a part of, is called among the example photos; `file` is where it lies.
        number: of its class in ImageNet-1k.
        box: (left, top, right, bottom), the part of the file that is taken; None for all of it.
    """

    name: str
    example: str
    file: Path
    number: int
    box: Box | None = None


# Name, example photo, class, part.
_LABELLED: tuple[tuple[str, str, int, Box | None], ...] = (
    # Tabby: the stripes of her forehead and the rings of her neck, on a tawny coat. ImageNet's “tiger cat” is hardly another.
    ("Chelsea the cat", "Chelsea the cat", 281, None),
    # Wall clock, as its photographer calls it. Without the blur of the camera's motion (Wiener filter, 36 pixels) it is a round
    # dial with two hands, so ImageNet's “analog clock” would fit as well.
    ("Clock in motion", "Clock in motion", 892, None),
    # Espresso: from Pikolo Espresso Bar, in a small cup.
    ("Coffee cup", "Coffee cup", 967, None),
    # Palace: a tower of the Summer Palace at Beijing.
    ("Summer Palace", "Summer Palace", 698, None),
    # Tripod: all of it is there, with a camera on it.
    ("Cameraman", "Cameraman", 872, None),
    # Space shuttle: the model of one behind the astronaut Eileen Collins; all of the orbiter, as little as can be of her.
    ("Astronaut: the shuttle behind her", "Astronaut", 812, (312, 80, 512, 280)),
)


def labelled_photos() -> list[Photo]:
    """The photos whose files are there."""
    files = example_images()
    return [
        Photo(name, example, files[example], number, box)
        for name, example, number, box in _LABELLED
        if example in files
    ]
