"""What is read off the answers of places to the halves of a picture, held against plain loops."""

import numpy as np
import pytest
import torch

from lsd.answers import Answers, listen


def blurred(h, w, down=0, across=0, width=1):
    """Answers of a grid that is moved round and then averaged over `width` × `width` places, zeros around, in loops."""
    halves = np.zeros((4, h, w))
    for y in range(h):
        for x in range(w):
            for i in range(y - width // 2, y + width // 2 + 1):
                for j in range(x - width // 2, x + width // 2 + 1):
                    if 0 <= i < h and 0 <= j < w:
                        row, column = (i - down) % h, (j - across) % w
                        halves[0 if row < h / 2 else 1, y, x] += 1
                        halves[2 if column < w / 2 else 3, y, x] += 1
    return Answers(np.sqrt(halves))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("down, across", [(0, 0), (1, 0), (0, 1), (-1, 0), (2, -1), (0, -2)])
@pytest.mark.parametrize("h, w", [(8, 8), (14, 14), (56, 56), (12, 20)])
def test_the_line_between_the_halves_lies_off_by_as_much_as_the_grid_was_moved(h, w, down, across, width):
    assert blurred(h, w, down, across, width).offset == pytest.approx(max(abs(down), abs(across)), abs=0.05)


def test_of_answers_that_know_no_half_alone_no_line_is_said():
    """As of windows that look at some of both: a line at their border would be none of the picture's."""
    rows = np.array([0.75, 0.75, 0.75, 0.75, 0.75, 0, 0, 0])[:, None] * np.ones(8)
    assert Answers(np.stack([rows, 1 - rows, rows, 1 - rows])).offset == 0


@pytest.mark.parametrize("seed", range(4))
def test_agreement_is_the_share_of_the_best_order_of_all(seed):
    """Of few enough places to try every order."""
    from itertools import permutations

    halves = np.random.default_rng(seed).random((4, 2, 3))
    found = Answers(halves)
    # A middle column lies in neither half, so that its places count for neither side.
    sides = [[1, 0, 1, -1, 0, -1], [1, 0, -1, 1, 0, -1]]
    shares = []
    for side, (first, second) in zip(sides, halves.reshape(2, 2, 6), strict=True):
        lean = (first - second) / (first + second)
        lean = lean - lean.mean()
        best = max(sum(a * b for a, b in zip(side, order, strict=True)) for order in permutations(lean))
        shares.append(sum(a * b for a, b in zip(side, lean, strict=True)) / best)
    assert found.right == pytest.approx(min(shares))


def test_channels_that_are_silent_are_passed_over():
    grid = torch.zeros(4, 64, 4, 4)
    assert listen(grid) is None
    grid[1, 5, :2] = grid[2, 5, :, :2] = grid[3, 5] = (
        1.0  # a channel that is not among those that are listened to first
    )
    answers = listen(grid)
    assert answers.is_sharp and answers.right == 1.0 and answers.offset == 0
