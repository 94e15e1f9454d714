"""docs/reasons.md holds the figures that ship, and the figures are those of the rows."""

import json
from dataclasses import asdict

import pytest

from docs import make_reasons
from lsd.evaluation.reasons_trials import Row
from lsd.reasons.defaults import METHOD


def test_the_page_is_what_its_figures_make():
    figures = json.loads(make_reasons.FIGURES.read_text("utf-8"))
    text = make_reasons.page(figures)
    assert text == make_reasons.PAGE.read_text("utf-8")
    assert "{" not in text


def test_rows_are_counted_by_network_layer_and_ranking(tmp_path):
    folder = tmp_path / "a.network"
    folder.mkdir()
    rows = [
        Row("a", METHOD, 0.5, (False, True, True, True, True, True), (0.0,) * 6, (False,) * 6),
        Row("b", METHOD, 0.7, (False, False, True, True, True, True), (0.0,) * 6, (True,) * 6),
        Row("a", "groups", float("nan"), (True, True, True), (0.0,) * 3, (False,) * 3),
    ]
    (folder / "layer4.1.jsonl").write_text("\n".join(json.dumps(asdict(row)) for row in rows))
    first, second = make_reasons.count(tmp_path)
    assert (first["network"], first["layer"], first["ranking"]) == ("a.network", "layer4.1", METHOD)
    assert first["off"] == [0, 1, 2, 2, 2, 2] and first["kept"] == [1] * 6 and first["pictures"] == 2
    assert first["shares"] == pytest.approx(0.6) and second["shares"] is None and second["off"] == [1, 1, 1]


def test_the_plot_has_a_panel_for_each_network(tmp_path):
    figures = json.loads(make_reasons.FIGURES.read_text("utf-8"))
    make_reasons.plot(figures["judging"], tmp_path / "plot.svg")
    drawn = (tmp_path / "plot.svg").read_text("utf-8")
    assert "all networks" in drawn and all(name in drawn for name in ("MobileNetV2", "EfficientNet-Lite0"))
