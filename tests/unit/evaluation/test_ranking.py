"""From rows to verdicts, on rows whose verdict is known."""

import io
import itertools
import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lsd.errors import LSDError
from lsd.evaluation.ranking import (
    DRAWS,
    METRICS,
    cells,
    figure,
    grid_wins,
    interval,
    pooled,
    report,
    scores,
    seconds,
    summarise,
    tables,
    trust,
    verdict,
    wins,
)
from lsd.evaluation.saliency_rows import SCHEMA, cell_item, picture_of, read_rows, rows_bytes
from lsd.evaluation.variants import CONTROL_VARIANTS, FACTORS, GRID, random_twin

UP, DOWN = "mu_fidelity", "deletion"  # more is better, less is better
KNOWN = {m.name: m for m in METRICS}


def read(data):
    return pq.read_table(io.BytesIO(data), schema=SCHEMA)


def rows(scores, metric=UP, part="photos", model="a", first=0):
    """Variant → values of pictures `first`, `first` + 1, … as a table; nan leaves a picture out."""
    found = [
        (f"picture {first + i:03d}", name, metric, float(value))
        for name, values in scores.items()
        for i, value in enumerate(values)
        if not np.isnan(value)
    ]
    return read(rows_bytes(part, model, found))


def together(*some):
    return pa.concat_tables(some).unify_dictionaries()


def judged(factor, *some):
    return verdict(cells(together(*some)), FACTORS[factor])


def versus(factor, level, share, count=100, better=1.0):
    """Scores of a level that is better on a share of the pictures, and as much worse on the others."""
    default = np.random.default_rng(0).random(count)
    gain = np.where(np.arange(count) < round(share * count), better, -better)
    return against({f"{factor}/{FACTORS[factor].default}": default, f"{factor}/{level}": default + gain})


def against(scores):
    """Scores of levels, with those of noise drawn alike, which the drawing leaves as they are."""
    noise = {f"random/{name}": np.zeros(len(v)) for name, v in scores.items() if FACTORS[name.partition("/")[0]].drawn}
    return scores | noise


def test_a_level_that_is_better_on_every_picture_takes_the_defaults_place():
    told = judged("output", *(rows(versus("output", "logit", 1, 20), model=model) for model in "ab"))
    assert told["default"] == "log_odds" and told["beaten_by"] == "logit"
    assert told["against"]["logit"] == {
        "pooled": [1, 1, 1, 40], "everywhere": True, "dear": False, "metrics": {"photos/mu_fidelity": [1, 1, 1, 40]},
        "bases": {"depth_fusion": [1, 1, 1, 40]},
    }  # fmt: skip
    assert told["against"]["probability"]["pooled"] is None  # not there
    assert judged("output", rows(versus("output", "logit", 0, 20)))["beaten_by"] is None


@pytest.mark.parametrize("count, beaten", [(20, None), (400, "on")])
def test_better_on_most_of_a_few_pictures_is_not_enough(count, beaten):
    told = judged("input", rows(versus("input", "on", 0.6, count)))
    mean, low, high, pictures = told["against"]["on"]["pooled"]
    assert mean == pytest.approx(0.6) and low < 0.6 < high and pictures == count
    assert told["beaten_by"] == beaten


def test_how_much_better_is_no_matter():
    values = versus("input", "on", 0.3, 100)
    values["input/on"] += np.where(np.arange(100) < 30, 1e6, 0)  # enormously better on few
    told = judged("input", rows(values))
    assert told["beaten_by"] is None and told["against"]["on"]["pooled"][0] == pytest.approx(0.3)


def test_ties_count_half():
    same = np.random.default_rng(0).random(30)
    told = judged("input", rows(against({"input/off": same, "input/on": same})))
    assert told["against"]["on"]["pooled"] == [0.5, 0.5, 0.5, 30] and told["beaten_by"] is None
    better = same + np.repeat([1, 0], 15)
    told = judged("input", rows(against({"input/off": same, "input/on": better})))
    assert told["against"]["on"]["pooled"][0] == pytest.approx(0.75) and told["beaten_by"] == "on"


def test_less_is_better_where_the_metric_says_so():
    values = versus("input", "on", 1, 20)
    assert judged("input", rows(values, DOWN))["beaten_by"] is None
    assert judged("input", rows(values, DOWN))["against"]["on"]["pooled"][0] == 0
    lower = against({"input/off": values["input/on"], "input/on": values["input/off"]})
    assert judged("input", rows(lower, DOWN))["beaten_by"] == "on"
    assert judged("input", rows(lower, DOWN), rows(values, UP))["beaten_by"] == "on"
    assert {m.key for m in METRICS if m.sign < 0} == {"deletion"}


def test_many_levels_widen_the_interval():
    """61 of 100: above one half at 95%, not at 1 − .05/3."""
    alone = judged("input", rows(versus("input", "on", 0.61)))
    among = judged("output", rows(versus("output", "logit", 0.61)))
    assert alone["beaten_by"] == "on" and among["beaten_by"] is None
    _, low, high, _ = among["against"]["logit"]["pooled"]
    assert low <= 0.5 < alone["against"]["on"]["pooled"][1] and high > alone["against"]["on"]["pooled"][2]
    # Told by metric, the interval is the plain one.
    assert among["against"]["logit"]["metrics"] == alone["against"]["on"]["metrics"]
    assert judged("output", rows(versus("output", "logit", 0.7)))["beaten_by"] == "logit"


def noisy(gain, noise_gain, count=200):
    """Scores of blur 8 and of noise under it, above those of the default."""
    rng = np.random.default_rng(0)
    found = {"blur/1": rng.random(count), "random/blur/1": rng.random(count)}
    found["blur/8"] = found["blur/1"] + gain + 0.1 * rng.standard_normal(count)
    found["random/blur/8"] = found["random/blur/1"] + noise_gain + 0.1 * rng.standard_normal(count)
    return found


@pytest.mark.parametrize("metric, sign", [(UP, 1), (DOWN, -1)])
def test_what_the_drawing_brings_to_noise_is_taken_off(metric, sign):
    alike = judged("blur", rows(noisy(sign, sign), metric))
    assert alike["beaten_by"] is None and alike["against"]["8"]["pooled"][0] == pytest.approx(0.5, abs=0.1)
    assert alike["against"]["8"]["everywhere"]
    assert judged("blur", rows(noisy(sign, 0), metric))["beaten_by"] == "8"
    assert judged("blur", rows(noisy(sign, 2 * sign), metric))["against"]["8"]["pooled"][0] == 0
    assert judged("blur", rows(noisy(0, -sign), metric))["beaten_by"] == "8"


def test_without_the_noise_a_drawing_is_not_judged():
    values = {name: v for name, v in noisy(1, 0).items() if name != "random/blur/8"}
    told = judged("blur", rows(values))["against"]["8"]
    assert told == {"pooled": None, "everywhere": False, "dear": False, "metrics": {}, "bases": {}}


def test_other_factors_are_compared_as_they_are():
    values = versus("output", "logit", 1, 20)
    noise = {"random/output/logit": values["output/logit"] + 5, "random/output/log_odds": values["output/log_odds"]}
    assert judged("output", rows(values | noise))["beaten_by"] == "logit"


def test_a_level_that_some_models_cannot_have_is_told_and_takes_no_place():
    here, there = rows(versus("method", "guided_backprop", 1, 40)), versus("method", "guided_backprop", 1, 40)
    told = judged("method", here, rows({"method/depth_fusion": there["method/depth_fusion"]}, model="b"))
    level = told["against"]["guided_backprop"]
    assert level["pooled"] == [1, 1, 1, 40] and not level["everywhere"] and told["beaten_by"] is None
    assert judged("method", here, rows(there, model="b"))["beaten_by"] == "guided_backprop"
    # A metric for which nobody has run it says nothing of what a model can have.
    told = judged("method", here, rows({"method/depth_fusion": there["method/depth_fusion"]}, DOWN))
    assert told["beaten_by"] == "guided_backprop" and told["against"]["guided_backprop"]["everywhere"]


def test_a_level_of_many_passes_takes_no_place_of_one_of_few():
    told = judged("smoothing", rows(versus("smoothing", "smoothgrad", 1, 40)))
    level = told["against"]["smoothgrad"]
    assert level["dear"] and level["everywhere"] and level["pooled"][1] == 1 and told["beaten_by"] is None
    told = judged("samples", rows(versus("samples", "4", 1, 40)))  # its default is as dear
    assert told["beaten_by"] == "4" and not told["against"]["4"]["dear"]


def test_the_surest_of_several_takes_the_place():
    values = versus("output", "logit", 0.8) | versus("output", "contrast", 0.9) | versus("output", "probability", 0.7)
    told = judged("output", rows(values))
    assert told["beaten_by"] == "contrast"
    assert all(told["against"][level]["pooled"][1] > 0.5 for level in ("logit", "contrast", "probability"))
    # On few pictures, the larger share is less sure.
    few, many = rows(versus("output", "contrast", 0.9, 20)), rows(versus("output", "logit", 0.85, 400))
    told = judged("output", few, many)["against"]
    assert told["contrast"]["pooled"][0] > told["logit"]["pooled"][0] and told["contrast"]["pooled"][1] > 0.5
    assert judged("output", few, many)["beaten_by"] == "logit"


def test_metrics_weigh_alike_and_so_do_models_within_them():
    some = [
        rows(versus("input", "on", 1, 10), model="a"), rows(versus("input", "on", 0, 30), model="b"),
        rows(versus("input", "on", 1, 50), "grid2", "grid2", "a"),
    ]  # fmt: skip
    told = judged("input", *some)["against"]["on"]
    assert told["pooled"] == [0.75, 0.75, 0.75, 50]
    assert told["metrics"]["photos/mu_fidelity"][0] == 0.5 and told["metrics"]["photos/mu_fidelity"][3] == 40
    assert told["metrics"]["grid2/grid2"] == [1, 1, 1, 50]


@pytest.mark.parametrize("level", [0.95, 0.9875])
def test_an_interval_is_a_bootstrap_over_pictures(level):
    rng = np.random.default_rng(1)
    table = together(rows({"x": rng.random(12)}), rows({"x": rng.random(11)}, model="b"))
    found = cells(table)
    parts = [(cell, cell.of("x").copy()) for cell in found]
    parts[0][1][3] = np.nan  # missing
    means = []
    for draw in range(DRAWS):
        of_models = []
        for cell, values in parts:
            taken = [v for v, times in zip(values, cell.draws[draw], strict=True) for _ in range(times)]
            of_models.append(np.mean([v for v in taken if not np.isnan(v)]))
        means.append(np.mean(of_models))
    result = figure(parts, level)
    assert (result.low, result.high) == pytest.approx(np.percentile(means, [50 - 50 * level, 50 + 50 * level]))
    assert result.mean == pytest.approx(np.mean([np.nanmean(v) for _, v in parts])) and result.count == 11 + 11
    assert result.as_list() == [round(v, 4) for v in (result.mean, result.low, result.high)] + [22]
    assert pooled([parts], level) == result


def test_bootstrap_samples_hold_as_many_pictures_as_there_are():
    (cell,) = cells(rows({"x": np.arange(30)}))
    assert cell.draws.shape == (DRAWS, 30) and (cell.draws.sum(1) == 30).all()
    assert cell.draws.mean(0) == pytest.approx(np.ones(30), abs=0.15)
    assert len({tuple(draw) for draw in cell.draws}) == DRAWS
    values = np.random.default_rng(0).standard_normal(30)
    result = figure([(cell, values)])
    assert result.high - result.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(30), rel=0.1)


def test_an_interval_leaves_out_equal_tails():
    assert interval(np.arange(1001)) == pytest.approx((25, 975))
    assert interval(np.arange(1001), 0.9) == pytest.approx((50, 950))


def test_a_picture_is_drawn_alike_for_all_metrics_of_a_part_and_model():
    """Or metrics that say the same would count as so many witnesses."""
    values = versus("input", "on", 0.6, 50)
    flipped = against({"input/off": values["input/on"], "input/on": values["input/off"]})
    one = judged("input", rows(values))["against"]["on"]["pooled"]
    same = judged("input", rows(values), rows(flipped, DOWN))["against"]["on"]["pooled"]
    assert same == one
    other = judged("input", rows(values), rows(values, "grid2", "grid2"))["against"]["on"]["pooled"]
    models = judged("input", rows(values), rows(values, model="b"))["against"]["on"]["pooled"]
    assert models[:3] == one[:3]  # a picture that is easy is so for all models
    assert other[2] - other[1] == pytest.approx((one[2] - one[1]) / np.sqrt(2), rel=0.15)  # drawn anew


def test_the_cells_of_a_grid_are_drawn_together():
    """Or one picture that suits a level would count as four."""
    gain = np.repeat(np.where(np.arange(30) < 18, 1.0, -1.0), 4)
    own = against({"input/off": np.zeros(120), "input/on": gain})

    def told(item):
        found = [(item(i), name, "grid2", float(v)) for name, values in own.items() for i, v in enumerate(values)]
        return judged("input", read(rows_bytes("grid2", "a", found)))["against"]["on"]["pooled"]

    together_, apart = told(lambda i: cell_item(i // 4, f"photo {i}")), told(lambda i: f"photo {i}")
    assert together_[0] == apart[0] == pytest.approx(0.6) and together_[3] == 120
    assert together_[2] - together_[1] == pytest.approx(2 * (apart[2] - apart[1]), rel=0.15)
    assert picture_of(cell_item(3, "a|b/c.png")) == picture_of(cell_item(3, "d")) != picture_of(cell_item(33, "d"))
    assert picture_of("photo") == "photo"


def test_bases_weigh_alike_and_are_told():
    count = 40
    fused, plain = versus("output", "logit", 1, count), versus("output", "logit", 0.25, count)
    values = fused | {f"{name}@gradient": v for name, v in plain.items()}
    told = judged("output", rows(values))["against"]["logit"]
    assert told["pooled"][0] == pytest.approx(0.625) and told["pooled"][3] == 2 * count
    assert told["metrics"]["photos/mu_fidelity"][0] == pytest.approx(0.625)
    assert {base: own[0] for base, own in told["bases"].items()} == {"depth_fusion": 1, "gradient": 0.25}
    assert "bases" in judged("input", rows(versus("input", "on", 1, 9)))["against"]["on"]
    assert judged("method", rows(versus("method", "gradient", 1, 9)))["against"]["gradient"]["bases"] == {}


def test_noise_is_taken_off_on_every_base():
    alike = noisy(1, 1)
    values = alike | {f"{name}@gradient": v for name, v in alike.items() if not name.startswith("random")}
    told = judged("blur", rows(values))["against"]["8"]
    assert told["bases"]["gradient"] == told["bases"]["depth_fusion"] and told["pooled"][0] == pytest.approx(
        0.5, abs=0.1
    )


def test_a_metric_that_only_some_pictures_have_is_drawn_with_them():
    values = np.random.default_rng(0).random(20)
    few = rows({"x": values[:8]}, DOWN, first=6)
    by_metric = {cell.metric.key: cell for cell in cells(together(few, rows({"x": values})))}
    every, some = by_metric[UP], by_metric[DOWN]
    assert len(every.items) == 20 and len(some.items) == 8
    for place, item in enumerate(some.items):
        assert np.array_equal(some.draws[:, place], every.draws[:, every.items.index(item)])


def test_the_draws_are_the_same_every_time():
    table = rows({"x": np.arange(9)})
    assert np.array_equal(cells(table)[0].draws, cells(table)[0].draws)
    assert np.array_equal(cells(table)[0].draws, cells(rows({"x": np.arange(9)}, model="b"))[0].draws)
    assert not np.array_equal(cells(table)[0].draws, cells(rows({"x": np.arange(9)}, "grid2", "grid2"))[0].draws)


def test_what_is_there_twice_counts_once():
    table = together(*(rows(versus("output", "logit", 0.7, 30), model=model) for model in "ab"))
    # The second part of a study that went on holds some pictures again.
    again = rows({name: v[10:20] for name, v in versus("output", "logit", 0.7, 30).items()}, first=10)
    once, twice = summarise(table), summarise(together(table, again))
    assert once == twice and once["pictures"]["photos/mu_fidelity"] == 30


def test_cells_hold_each_value_in_its_place():
    rng = np.random.default_rng(0)
    values = {name: rng.random(5).astype(np.float32) for name in ("x", "y")}
    values["y"][2] = np.nan
    table = together(
        rows(values), rows({"x": [7, 8]}, "energy", "demo", "b"), read(rows_bytes("photos", "a", [("", "", "seconds", 3)])),
        rows({"x": [1]}, "unheard of"),
    )  # fmt: skip
    shuffled = table.take(np.random.default_rng(1).permutation(table.num_rows))
    for found in (cells(table), cells(shuffled)):
        assert [(c.metric.name, c.model) for c in found] == [("photos/mu_fidelity", "a"), ("demo/energy", "b")]
        first = found[0]
        order = [first.items.index(f"picture {i:03d}") for i in range(5)]
        for name, own in values.items():
            np.testing.assert_array_equal(first.of(name)[order], own)
        assert np.isnan(first.of("z")).all() and first.of("z").shape == (5,)


def test_missing_values_are_no_losses():
    (cell,) = cells(rows({"x": np.arange(4)}))
    nan = float("nan")
    found = wins(cell, np.array([2, 1, 0, nan]), np.array([1, 1, 1, 1]))
    np.testing.assert_array_equal(found, [1, 0.5, 0, nan])
    np.testing.assert_array_equal(wins(cell, np.ones(4), np.array([nan, 0, 1, 2])), [nan, 1, 0.5, 0])
    result = figure([(cell, found)])
    assert result.mean == 0.5 and result.count == 3
    assert figure([(cell, np.full(4, nan))]) is None and figure([]) is None
    assert figure([(cell, np.full(4, nan)), (cell, found)]) == result
    assert pooled([[(cell, np.full(4, nan))]], 0.95) is None
    pair = figure([(cell, np.array([nan, nan, 0.25, 0.25]))])  # in some samples none of the two is drawn
    assert (pair.mean, pair.low, pair.high, pair.count) == (0.25, 0.25, 0.25, 2)
    assert figure([(cell, np.array([nan, nan, nan, 0.25]))]) is None  # of one picture, nobody knows how far it varies


def test_scores_are_means_over_models():
    table = together(rows({"input/on": [1, 2, 3]}), rows({"input/on": [9, 11]}, model="b"))
    (level,) = (v for v in FACTORS["input"].levels if v.level == "on")
    told = scores(cells(table), level)
    assert list(told) == ["photos/mu_fidelity"]
    assert told["photos/mu_fidelity"]["pooled"][0] == 6 and told["photos/mu_fidelity"]["pooled"][3] == 5
    assert {model: f[0] for model, f in told["photos/mu_fidelity"]["models"].items()} == {"a": 2, "b": 10}
    assert scores(cells(table), FACTORS["input"].levels[0]) == {}


def grid_scores(sign=1, without=()):
    """Means by which `output`'s default always wins, `sign`'s never, `channels`' levels tie, and the others' partly win."""
    found = {}
    for key in itertools.product(*GRID.values()):
        output, sign_of, _, times, blur = key
        mean = -1000 + 100 * (output == "log_odds") - 40 * (sign_of == "abs") + 3 * (sign_of == "negative")
        mean += (8 if output in ("log_odds", "logit") else -8) * (times == "off")
        mean += (1 if sign_of == "abs" else -1) * (blur == "0")
        if key not in without:
            found[f"grid/{','.join(key)}"] = sign * (mean + np.array([-0.25, 0.25, 0]))
    return found


KNOWN_WINS = {"output": 1, "sign": 0, "channels": 1 / 4, "input": 1 / 2, "blur": 1 / 3}


@pytest.mark.parametrize("metric, part, sign", [("grid2", "grid2", 1), (DOWN, "photos", -1)])
def test_how_often_a_default_is_the_best_of_the_grid(metric, part, sign):
    told = grid_wins(cells(rows(grid_scores(sign), metric, part)))
    name = f"{part}/{metric}"
    assert {factor: own[name] for factor, own in told.items()} == pytest.approx(KNOWN_WINS)
    assert {factor: own["chance"] for factor, own in told.items()} == {
        factor: 1 / len(levels) for factor, levels in GRID.items()
    }
    # In the other direction, what was best is worst.
    turned = grid_wins(cells(rows(grid_scores(-sign), metric, part)))
    assert (turned["output"][name], turned["sign"][name]) == pytest.approx((0, 1))
    assert (turned["channels"][name], turned["input"][name]) == pytest.approx((1 / 4, 1 / 2))


def test_the_grids_wins_are_means_over_models():
    both = cells(together(rows(grid_scores()), rows(grid_scores(-1), model="b"), rows({"x": [1]}, "energy", "demo")))
    told = grid_wins(both)
    assert told["output"]["photos/mu_fidelity"] == 0.5 and "demo/energy" not in told["output"]


@pytest.mark.parametrize("metric, sign", [(UP, 1), (DOWN, -1)])
def test_what_is_missing_from_the_grid_wins_nothing(metric, sign):
    without = [key for key in itertools.product(*GRID.values()) if key[0] == "contrast" or key[1] == "negative"]
    told = grid_wins(cells(rows(grid_scores(sign, without), metric)))
    name = f"photos/{metric}"
    # Where the whole row is missing, its levels tie: 2 of 3 signs are there, 3 of 4 outputs.
    assert told["output"][name] == pytest.approx(2 / 3 + 1 / 3 / 4)
    assert told["sign"][name] == pytest.approx(1 / 4 / 3)


def whole_study():
    """Some of everything."""
    rng = np.random.default_rng(0)
    levels = [v for factor in FACTORS.values() for v in factor.variants]
    twins = [random_twin(v) for factor in FACTORS.values() if factor.drawn for v in factor.levels]
    names = [v.name for v in (*levels, *CONTROL_VARIANTS, *twins)]
    some = [
        rows({name: rng.random(6) for name in names}, m.key, m.part, model)
        for m in METRICS
        for model in (("demo:vit",) if m.part == "demo" else ("a", "b"))
    ]
    about = [(f"{i}", f"method/{name}", "impossible", i) for i in (0, 1) for name in ("gradient", "grad_cam")]
    about += [("0", "method/gradient", "ssim/0", 0.5), ("", "", "seconds", 2.5)]
    return [*some, rows(grid_scores()), *(read(rows_bytes("trust", model, about)) for model in "ab")]


def checked(text):
    """The tables in Markdown, as lists of rows of cells."""
    found, lines = [], text.splitlines()
    for i, line in enumerate(lines):
        if re.fullmatch(r"(\|---)+\|", line):
            block = list(itertools.takewhile(lambda own: own.startswith("|"), lines[i - 1 :]))
            assert lines[i - 2] == "" and not any("--" in own or "||" in own for own in block[2:])
            cells_ = [own.strip("|").split("|") if own.strip("| ") else [] for own in block]
            assert len({own.count("|") for own in block}) == 1, block
            found.append(cells_)
    assert sum(line.startswith("|") for line in lines) == sum(map(len, found))
    return found


def test_a_summary_holds_everything_and_its_tables_are_tables():
    text, summary = report(together(*whole_study()))
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary  # plain values
    assert list(summary["factors"]) == list(FACTORS)
    for name, factor in FACTORS.items():
        told = summary["factors"][name]
        assert set(told) == {"default", "beaten_by", "against", "levels"} and told["default"] == factor.default
        assert set(told["levels"]) == {v.level for v in factor.levels} == {*told["against"], factor.default}
        assert all(set(own) == set(KNOWN) for own in told["levels"].values())
        assert (name in summary["noise"]) == factor.drawn
    assert summary["models"] == ["a", "b", "demo:vit"] and set(summary["pictures"].values()) == {6}
    assert [m["name"] for m in summary["metrics"]] == list(KNOWN)
    assert {m["name"] for m in summary["metrics"] if m["better"] == "lower"} == {"photos/deletion", "demo/deletion"}
    assert set(summary["controls"]) == {v.level for v in CONTROL_VARIANTS}
    blurred = summary["against_blurred"]["gradient"]["grid2/grid2"]
    assert set(blurred) == {"a", "b"} and all(0 <= low <= mean <= high <= 1 for mean, low, high, _ in blurred.values())
    assert summary["grid_wins"]["sign"]["photos/mu_fidelity"] == 0
    found = checked(text)
    assert len(found) == len(FACTORS) + 2
    assert [len(own) - 2 for own in found] == [
        *(len(f.levels) + len(CONTROL_VARIANTS) * (f.name == "method") for f in FACTORS.values()), len(GRID), 2
    ]  # fmt: skip
    assert text.count("eaten") == len(FACTORS)
    first = summary["factors"]["method"]["levels"]["depth_fusion"]["photos/mu_fidelity"]["pooled"]
    (row,) = (own for own in found[0] if own[0].strip() == "**depth_fusion**")
    assert row[2].strip().startswith(f"{first[0]:.3f} [")
    assert "deletion, photos ↓" in text and "insertion, photos |" in text


@pytest.mark.parametrize("kept", ["photos", "trust"])
def test_a_study_of_one_part_makes_tables_as_well(kept):
    some = together(*whole_study())
    some = some.filter(pa.compute.equal(some["part"].cast(pa.string()), kept))
    text, summary = report(some)
    checked(text)
    json.dumps(summary, allow_nan=False)
    assert bool(summary["metrics"]) == (kept == "photos") and bool(summary["trust"]) == (kept == "trust")
    assert "\n".join(tables(summary)) + "\n" == text


def test_a_beaten_default_is_said_to_be():
    text, _ = report(rows(versus("input", "on", 1, 20)))
    assert text.count("Beaten by on.") == 1 and "100% [100%–100%]" in text


def test_trust_is_a_mean_over_pictures():
    table = together(*whole_study())
    told = trust(table)
    assert told == {
        "gradient": {"impossible": {"a": 0.5, "b": 0.5}, "ssim/0": {"a": 0.5, "b": 0.5}},
        "grad_cam": {"impossible": {"a": 0.5, "b": 0.5}},
    }
    assert trust(together(table, read(rows_bytes("trust", "a", [("1", "method/gradient", "impossible", 1)])))) == told


def test_seconds_are_summed():
    some = [read(rows_bytes("photos", "a", [("", "", "seconds", s)])) for s in (1.25, 2.5, 0.04)]
    assert seconds(together(*some, rows({"x": [1]}, model="b"))) == {"photos": {"a": 3.8}}


def test_rows_come_back_and_damage_is_told(tmp_path):
    (tmp_path / "a.parquet").write_bytes(rows_bytes("photos", "a", [("i", "x", UP, 0.1), ("j", "x", UP, 2)]))
    (tmp_path / "b.parquet").write_bytes(rows_bytes("grid2", "b", [("i", "y", "grid2", float("nan"))]))
    both = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
    table = read_rows(both)
    assert table.schema == SCHEMA and table.num_rows == 3
    assert table["variant"].to_pylist() == ["x", "x", "y"] and table["part"].to_pylist() == ["photos"] * 2 + ["grid2"]
    assert table["value"].to_pylist()[:2] == [np.float32(0.1), 2]
    assert read_rows(both[:1]).num_rows == 2
    with pytest.raises(LSDError, match="no results"):
        read_rows([])
    data = (tmp_path / "b.parquet").read_bytes()
    for broken in (b"", b"PAR1", data[:-9], data[:4] + bytes(20) + data[24:]):
        (tmp_path / "b.parquet").write_bytes(broken)
        with pytest.raises(LSDError, match=r"^b\.parquet is damaged; .*\.$"):
            read_rows(both)


def test_not_one_bit_of_the_values_may_be_wrong(tmp_path):
    values = np.random.default_rng(0).random(2000)
    data = rows_bytes("photos", "a", [("i", "x", UP, value) for value in values])
    file = tmp_path / "a.parquet"
    for place in range(1000, 8000, 1000):  # of 8000 bytes that no compression makes fewer
        wrong = bytearray(data)
        wrong[place] ^= 1
        file.write_bytes(wrong)
        with pytest.raises(LSDError, match="damaged"):
            read_rows([file])
    file.write_bytes(data)
    assert np.array_equal(read_rows([file])["value"].to_numpy(), values.astype(np.float32))
