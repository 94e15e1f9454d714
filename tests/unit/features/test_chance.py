"""What chance gives a picture is its own, however its steps are drawn and whoever shares its batch."""

import pytest
import torch

from lsd.features.chance import Chance
from lsd.features.pictures import Job, generator
from lsd.features.transforms import Transforms, draw
from lsd.features.units import parse

CPU = torch.device("cpu")
VIEWS = Transforms(views=2, shift=0.1, noise=0.1)
JOBS = [Job(parse("class/1"), 0), Job(parse("class/1"), 1), Job(parse("class/2"), 0)]


def test_views_are_the_same_however_many_are_drawn_at_once():
    one, several = Chance(JOBS, VIEWS, CPU), Chance(JOBS, VIEWS, CPU)
    source = [generator(job, "views") for job in JOBS]
    for ahead in (3, 1, 5, 1, 1, 1):
        expected = draw(VIEWS, source)
        assert torch.equal(one.views(1), expected) and torch.equal(several.views(ahead), expected)


def test_noise_is_each_pictures_own_and_new_at_each_step():
    together, alone = Chance(JOBS, VIEWS, CPU), Chance(JOBS[1:2], VIEWS, CPU)
    seen = []
    for _ in range(3):
        noise = together.noise("", (5, 4))
        assert noise.shape == (6, 3, 5, 4) and torch.equal(noise[2:4], alone.noise("", (5, 4)))
        seen.append(noise.clone())
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    assert torch.stack(seen).std().item() == pytest.approx(1, abs=0.1)


def test_noise_stays_at_its_place_in_memory():
    """A recorded step reads it there."""
    chance = Chance(JOBS, VIEWS, CPU)
    assert chance.noise("a", (5, 4)).data_ptr() == chance.noise("a", (5, 4)).data_ptr()
    assert chance.noise("a", (5, 4)).data_ptr() != chance.noise("b", (5, 4)).data_ptr()


def test_those_that_stay_go_on_where_they_were():
    all_of_them, some = Chance(JOBS, VIEWS, CPU), Chance(JOBS, VIEWS, CPU)
    all_of_them.views(4), some.views(4), all_of_them.noise("", (3, 3)), some.noise("", (3, 3))
    some = some.of(torch.tensor([2, 0]))
    for _ in range(5):  # beyond what was drawn already
        views = all_of_them.views(2)
        assert torch.equal(some.views(2), torch.cat([views[4:6], views[0:2]]))
    noise = all_of_them.noise("", (3, 3))
    assert torch.equal(some.noise("", (3, 3)), torch.cat([noise[4:6], noise[0:2]]))
