"""The film of an ascent."""

import io

import numpy as np
import torch
from PIL import Image

from lsd.features.bundle import Film
from lsd.features.pictures import Job, Snapshot
from lsd.features.units import parse


def test_pictures_that_are_no_squares_keep_their_proportions():
    film, jobs = Film(), (Job(parse("class/1"), 0), Job(parse("class/1"), 1))
    film.add(Snapshot(jobs, torch.zeros(2, 3, 60, 120), torch.zeros(2), 1, 2, 0, 2))
    frame = np.asarray(Image.open(io.BytesIO(film.gif())).convert("L"))
    assert frame.shape == (160, 320) and frame[:80].max() < 10 and frame[80:].min() > 240
