"""The figures that ship: made of the rows that ship, in the pages that ship."""

import io
import json
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from docs import make_choices
from lsd.evaluation.choices import CHOICES, as_measured, summary
from lsd.evaluation.ranking import summarise
from lsd.evaluation.saliency import Study, Task, run_task
from lsd.evaluation.saliency_rows import read_rows
from lsd.evaluation.saliency_scores import Size
from lsd.evaluation.variants import FACTORS

ROWS = Path(__file__).parents[3] / "docs" / "saliency_study.parquet"


def test_every_level_has_a_name():
    for name, factor in FACTORS.items():
        assert set(CHOICES[name].levels) == {variant.level for variant in factor.levels}


def test_the_figures_are_those_of_the_rows():
    made = json.loads(json.dumps(summarise(read_rows([ROWS])), ensure_ascii=False))
    shipped = summary()
    assert made.keys() == shipped.keys()
    for name, told in made["factors"].items():
        assert told["beaten_by"] == shipped["factors"][name]["beaten_by"], name
        for level, own in told["against"].items():
            assert own["pooled"] == pytest.approx(shipped["factors"][name]["against"][level]["pooled"], abs=1e-3)
    assert made["trust"] == shipped["trust"] and made["pictures"] == shipped["pictures"]


@pytest.mark.parametrize("model, level", [
    ("demo:resnet", "depth_fusion"), ("demo:convnext", "depth_fusion"),  # that of transformers is another since
    *((model, level) for model in ("demo:resnet", "demo:vit", "demo:convnext") for level in ("grad_cam", "layer_cam")),
])  # fmt: skip
def test_what_is_added_to_the_rows_is_measured_as_they_were(model, level):
    """A drawn picture scored again: another clip than theirs would show."""
    size = Size(photos=1, many=0, removed=0, full=0)
    study = Study("demo", size, (), (), (as_measured(FACTORS["method"].on("", level)),))
    made = pq.read_table(io.BytesIO(run_task(study, Task("demo", model, 0, ((0,),))))).to_pylist()
    rows = read_rows([ROWS])
    ours = pc.and_(
        pc.equal(rows["model"].cast("string"), model), pc.equal(rows["variant"].cast("string"), f"method/{level}")
    )
    known = {(row["item"], row["metric"]): row["value"] for row in rows.filter(ours).to_pylist()}
    compared = [row for row in made if row["item"]]
    assert {row["metric"] for row in compared} == {"mu_fidelity", "energy", "pointing"}
    for row in compared:
        assert row["value"] == pytest.approx(known[row["item"], row["metric"]], abs=2e-3)


def test_the_page_is_made_of_the_figures():
    assert make_choices.PAGE.read_text("utf-8") == make_choices.page(summary())


@pytest.mark.parametrize("name", ["choices.md", "believe.md", "mistakes.md", "depth_fusion.md"])
def test_a_table_ends_before_the_text_behind_it(name):
    """Or the text is shown as one more row."""
    lines = [*(ROWS.parent / name).read_text("utf-8").splitlines(), ""]
    rows = [i for i, line in enumerate(lines) if line.startswith("|")]
    assert rows and all(lines[i + 1] == "" or lines[i + 1].startswith("|") for i in rows)


def test_depth_fusion_is_what_its_description_says():
    """Beats blurred noise everywhere, reaches Grad-CAM's grids on every network, forgets with the network."""
    figures = summary()
    for metric, models in figures["against_blurred"]["depth_fusion"].items():
        for model, (_, low, _, _) in models.items():
            assert low > 0.5, (metric, model)
    methods = figures["factors"]["method"]["levels"]
    for grid in ("grid2/grid2", "grid3/grid3"):
        fused, cam = (methods[name][grid]["models"] for name in ("depth_fusion", "grad_cam"))
        assert all(fused[model][0] >= cam[model][0] for model in cam)
    forgotten = [*figures["trust"]["depth_fusion"]["rank_abs/5"].values()]
    assert abs(sum(forgotten) / len(forgotten)) < 0.1 and max(map(abs, forgotten)) < 0.35  # of four pictures each
    assert all(value > 0.9 for value in figures["trust"]["depth_fusion"]["impossible"].values())
