"""The study of how stable reasons are."""

import torch

from lsd.evaluation import __main__ as command
from lsd.evaluation.reasons_stability import ANOTHER, changed, stability
from lsd.layers import find_layer


def test_moved_pictures_are_moved_and_noise_is_as_large_as_it_is_said_to_be(pictures):
    image = pictures(1, 32)
    one, four, _, little, much = changed(image)
    torch.testing.assert_close(one[..., 1:, 1:], image[..., :-1, :-1])
    torch.testing.assert_close(four[..., :5, 4:], image[..., :1, :-4].expand(-1, -1, 5, -1))
    assert 0.019 < float((little - image).abs().max()) <= 0.02 < float((much - image).abs().max()) <= 0.1


def test_little_noise_changes_shares_less_than_much_and_another_photo_most(image_model, pictures):
    model = image_model("test_resnet", 64)
    rows = list(stability(model, find_layer(model, "layer3"), pictures(4, 64), ["gradient_x_activation", "joint"]))
    assert len(rows) == 4 * 2 * 6
    mean = {
        change: sum(row.correlation for row in rows if row.change == change) / 8
        for change in {row.change for row in rows}
    }
    assert 1 >= mean["noise ± 0.02"] > mean["noise ± 0.1"] > mean[ANOTHER]
    assert all(0 <= row.overlap <= 1 for row in rows)


def test_the_command(capsys):
    arguments = ["stability", "--models", "demo:resnet", "--images", "demo", "--every"]
    assert command.main([*arguments, "0::700"]) == 0
    assert capsys.readouterr().out.count("| Demo") == 12
    assert command.main([*arguments, "0::9999"]) == 2
    assert "At least two pictures" in capsys.readouterr().err
