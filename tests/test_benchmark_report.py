"""The report on a benchmark whose records are made up: its page, tables, pictures and checklist."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from made_up_benchmark import make
from matplotlib.figure import Figure

from nnunet_cardiac.benchmark import pictures, sections, tables
from nnunet_cardiac.benchmark.claim import ITEMS, _shared_patients, claim_table
from nnunet_cardiac.benchmark.contenders import BUILT_IN
from nnunet_cardiac.benchmark.folder import BenchmarkFolder, Job
from nnunet_cardiac.benchmark.pictures import EXPERT, choose, draw_case, draw_cases, outline, polygons, side_by_side
from nnunet_cardiac.benchmark.report import _command, _write_tables, write_report
from nnunet_cardiac.benchmark.results import Results, _load_test, load
from nnunet_cardiac.benchmark.sections import Content
from nnunet_cardiac.benchmark.settings import TEST_SET
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.evaluate import STATES
from nnunet_cardiac.evaluation.figures import (
    BOX,
    COLOURS_OF_ROLES,
    colour,
    distributions,
    line_style,
    structure_colours,
)
from nnunet_cardiac.training.training_cost import gpu_energy

CHROMIUM = shutil.which("chromium")
NAMES = ("nnunet_2d", "crocnet", "dadu", "e2aunet")


@pytest.fixture(scope="module")
def benchmark(tmp_path_factory):
    with pytest.MonkeyPatch.context() as context:
        for name in ("raw", "preprocessed", "results"):
            context.setenv(f"nnUNet_{name}", "")
        yield make(tmp_path_factory.mktemp("made_up"), NAMES, n_patients=30)


@pytest.fixture(autouse=True)
def folders(benchmark, monkeypatch):
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{name}", str(benchmark.path.parent / name))


@pytest.fixture(scope="module")
def results(benchmark) -> Results:
    return load(benchmark)


@pytest.fixture(scope="module")
def page(benchmark) -> str:
    with pytest.MonkeyPatch.context() as context:
        context.setattr(pictures, "MOST_CASES", 4)
        context.setattr(sections, "bland_altman", lambda pairs, statistics: Figure())  # test_benchmark.py draws some
        return write_report(benchmark.path).page.read_text()


# the page


def test_page_needs_nothing_else(page):
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert re.search(r"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-\S{44}'", page)


def test_same_cases_stand_beside_each_other(page):
    shown = re.findall(r'aria-label="(patient\d+_E[DS]), (\w+)"', page)
    assert len({case for case, _ in shown}) == 3
    assert [who for _, who in shown] == [
        EXPERT,
        "nnunet_2d",
        "e2aunet",
        "crocnet",
        "dadu",
    ] * 3  # stage 1 before stage 2


def test_pictures_of_many_contenders_are_folded(page):
    assert re.search(r"<details><summary>Bland-Altman plots of 4 contenders</summary>", page)


def test_long_tables_are_not_laid_out(page, benchmark):
    table = re.search(r'data-long="cases".+?</div>', page, re.DOTALL).group()
    assert table.count("<tr") == 1 + 50  # of 60, without JavaScript
    data = json.loads(re.search(r'id="long-tables">(.+?)</script>', page).group(1))
    written = pd.read_csv(benchmark.report / "cases.csv", dtype=str)
    assert data == {"cases": written.to_numpy().tolist()} and len(written) == 60


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_tables_and_viewer_in_a_browser(page, tmp_path):
    clicks = """
      const click = (element) => element.click();
      const head = (id, i) => document.querySelectorAll(`#${id} th button`)[i];
      const column = (id, i) => [...document.querySelectorAll(`#${id} tbody tr`)].map((tr) => tr.cells[i].textContent);
      const out = {};
      const dice = [...document.querySelectorAll("#summary th")].findIndex((th) => th.textContent === "Dice, mean");
      click(head("summary", dice)); click(head("summary", dice));
      out.sorted = column("summary", dice);
      out.direction = document.querySelectorAll("#summary th")[dice].getAttribute("aria-sort");
      out.rows = column("cases", 0).length;
      click([...document.querySelectorAll(".tools button")].find((b) => b.textContent === "Next"));
      out.next = column("cases", 0).length;
      const filter = document.querySelector('input[aria-label="Filter All cases"]');
      filter.value = "patient00003 es"; filter.dispatchEvent(new Event("input"));
      out.filtered = column("cases", 0);
      click(document.querySelector("h3 .open"));
      const viewer = document.getElementById("viewer");
      const state = () => [...viewer.querySelectorAll("figure image")].map((image) => image.getAttribute("href"));
      out.open = viewer.open; out.columns = viewer.querySelectorAll("figure").length;
      const before = state();
      viewer.querySelector(".columns").dispatchEvent(new WheelEvent("wheel", { deltaY: 1, cancelable: true }));
      out.alike = new Set(state()).size; out.moved = state()[0] !== before[0];
      out.outlines = [...viewer.querySelectorAll("figure path")].filter((path) => path.getAttribute("d")).length;
      viewer.querySelector(".close").click(); out.closed = !viewer.open;
      const text = { id: "out", textContent: JSON.stringify(out) };
      document.body.append(Object.assign(document.createElement("pre"), text));
    """
    open_page = re.sub(r"<meta http-equiv=[^>]+>", "", page).replace("</body>", f"<script>{clicks}</script></body>")
    (tmp_path / "page.html").write_text(open_page)
    dom = subprocess.run(
        [CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile",
         "--dump-dom", f"file://{tmp_path}/page.html"], capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    out = json.loads(re.search(r'<pre id="out">(.+?)</pre>', dom).group(1))
    assert out["sorted"] == sorted(out["sorted"], reverse=True) and out["direction"] == "descending"
    assert (out["rows"], out["next"], out["filtered"]) == (50, 10, ["patient00003_ES"])
    assert out["open"] and out["columns"] == 5 and out["alike"] == 1 and out["moved"] and out["closed"]
    assert out["outlines"] == 15  # of three structures each


# cases


def test_networks_that_have_learned_nothing_are_told_before_all_tables(results, benchmark, page):
    assert "below 0.5" not in page
    contenders = [replace(c, metrics=c.metrics.assign(dice=0.1)) for c in results.contenders]
    poor = sections.Content(replace(results, contenders=contenders), benchmark, "nnunet_2d", 0.01)
    told = sections.summary(poor).parts[0]
    assert "Mean Dice below 0.5: nnunet_2d, RV (0.10); nnunet_2d, MYO (0.10); " in told.text and not told.small
    assert "and 8 more" in told.text  # of 4 contenders with 3 structures


def test_cases_are_chosen_by_all_contenders():
    dice = {"a": [0.9, 0.5, 0.7, 0.8, 0.2], "b": [0.9, 0.6, 0.2, 0.9, np.nan]}
    contenders = [
        SimpleNamespace(name=name, by_case=lambda metric, own=own: pd.Series(own, list("vwxyz")))
        for name, own in dice.items()
    ]
    chosen = choose(SimpleNamespace(contenders=contenders))  # z is not everybody's
    assert dict(chosen) == {"v": "best", "y": "median", "x": "worst", "w": "among the worst"}


def test_viewer_has_as_many_cases_as_there_is_room(results, benchmark, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_CASES", 5)
    drawn, problems = draw_cases(results, benchmark)
    assert len(drawn) == 5 and not problems
    monkeypatch.setattr(pictures, "MOST_BYTES", sum(picture.size for picture in drawn[:4]) + 1)
    assert [p.case for p in draw_cases(results, benchmark)[0]] == [p.case for p in drawn[:4]]
    monkeypatch.setattr(pictures, "MOST_BYTES", 0)
    assert [p.why for p in draw_cases(results, benchmark)[0]] == ["best", "median", "worst"]


def test_files_that_cannot_be_read(results, benchmark, monkeypatch):
    lost = replace(results.contenders[0].model, trainer="nnUNetTrainerLost")
    missing = replace(results.contenders[0], model=lost, stages=[lost])
    changed = replace(results, contenders=[missing, *results.contenders[1:]])
    picture = draw_case("patient00000_ED", "best", changed, benchmark)
    assert picture.outlines["nnunet_2d"] is None and picture.outlines["dadu"] is not None
    monkeypatch.setenv("nnUNet_raw", str(benchmark.path))
    drawn, problems = draw_cases(results, benchmark)
    assert not drawn and "does not tell the labels' names" in problems[0]


def test_outline_runs_along_the_border():
    mask = np.zeros((8, 9), bool)
    mask[2:6, 3:7] = True
    ((x, y),) = polygons(outline(mask))
    assert (x.min(), x.max(), y.min(), y.max()) == (3, 7, 2, 6)
    assert abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2 == 16 - 4 / 8  # the corners are cut
    mask[3, 4] = False
    assert len(polygons(outline(mask))) == 2 and outline(np.zeros((4, 4), bool)) == ""


def test_structures_keep_their_colours_where_others_are_missing(benchmark, monkeypatch):
    """A contender that never finds the first structure."""
    monkeypatch.setattr(pictures, "MOST_CASES", 1)
    monkeypatch.setattr(sections, "bland_altman", lambda pairs, statistics: Figure())
    draw = pictures.draw_case

    def without_the_first(*arguments):
        picture = draw(*arguments)
        missing = {who: [["", *paths[1:]] for paths in slices] for who, slices in picture.outlines.items()}
        return replace(picture, outlines=missing)

    monkeypatch.setattr(pictures, "draw_case", without_the_first)
    drawn = re.findall(r'<path\s+d="[^"]+" stroke="(#\w+)"/>', write_report(benchmark.path).page.read_text())
    assert set(drawn) == {COLOURS_OF_ROLES["MYO"], COLOURS_OF_ROLES["LV"]}


def test_a_structure_has_its_colour_whatever_it_is_called():
    drawn = structure_colours(["atrium", "left_ventricle", "Myocardium", "aorta"])
    assert drawn["left_ventricle"] == COLOURS_OF_ROLES["LV"] and drawn["Myocardium"] == COLOURS_OF_ROLES["MYO"]
    assert list(drawn)[0] == "atrium" and len(set(drawn.values())) == 4


def test_a_stage_comes_before_what_builds_on_it(results):
    assert [c.name for c in side_by_side(results.contenders)] == ["nnunet_2d", "e2aunet", "crocnet", "dadu"]


def test_a_stage_that_is_no_contender_is_shown_before_what_builds_on_it(results, benchmark):
    alone = replace(results, contenders=[c for c in results.contenders if c.name in ("nnunet_2d", "crocnet")])
    case = choose(alone)[0][0]
    columns = draw_case(case, "best", alone, BenchmarkFolder(benchmark.path)).outlines
    assert list(columns) == [EXPERT, "nnunet_2d", "crocnet, stage 1", "crocnet"]
    together = draw_case(case, "best", results, BenchmarkFolder(benchmark.path)).outlines
    assert columns["crocnet, stage 1"] == together["e2aunet"] and "crocnet, stage 1" not in together


# figures


def test_dots_stand_on_their_boxes():
    random = np.random.default_rng(0)
    for n in (2, 25):
        values = {f"c{i}": pd.DataFrame({"structure": "LV", "dice": random.random(400)}) for i in range(n)}
        ax = distributions(values, ("dice",)).axes[0]
        dots = [line.get_xdata() for line in ax.lines if line.get_marker() == "."]
        boxes = [patch.get_path().get_extents() for patch in ax.patches]
        assert len(dots) == len(boxes) == n
        for i, (x, box) in enumerate(zip(dots, boxes, strict=True)):
            assert len(x) == 150 and box.x0 <= x.min() <= x.max() <= box.x1
            assert (box.x0 + box.x1) / 2 == pytest.approx(i + 1) and box.width == pytest.approx(BOX)
    assert len({(colour(i), line_style(i)) for i in range(40)}) == 40


# tables


def test_phases_as_in_dadus_tables(results):
    table = tables.phase_table(results).set_index("contender")
    assert list(table)[1:7] == [f"RV {m}, {p}" for m in ("Dice", "HD mm", "HD95 mm") for p in ("ED", "ES")]
    own = results.contenders[2].metrics
    part = own[(own["phase"] == "ES") & (own["structure"] == "LV")]
    assert table.loc["dadu", "LV HD mm, ES"] == f"{part['hausdorff_mm'].mean():.1f}"
    full = tables.full_table(results)
    distances = tables.distance_table(results, full).set_index(["structure", "contender"])
    assert distances.loc[("LV", "dadu"), "HD mm, ES"] == table.loc["dadu", "LV HD mm, ES"]
    assert {"HD mm, mean", "HD95 mm, mean"} < set(tables.summary_table(results, full, None, "nnunet_2d"))
    assert "HD LV mm" in tables.subset_table(results)


def test_case_table_is_of_all_cases(results):
    table = tables.case_table(results).set_index("case")
    assert len(table) == 60 and table["Dice, mean"].is_monotonic_increasing
    assert list(table)[:5] == ["patient", "phase", "group", "vendor", "Dice, mean"]
    assert (
        table.loc["patient00007_ED", "HD95 dadu"]
        == f"{results.contenders[2].by_case('hausdorff95_mm')['patient00007_ED']:.1f}"
    )


def test_repeatability_beside_the_contenders(results):
    table = tables.repeatability_table(results).set_index("who")
    assert table.loc["two scans", "LV EF"].tolist() == ["2.4 to 7.3 %", "", "6.0 %"]
    assert table["source"].str.contains(r"et al\..+\d{4}").sum() == 4
    pair = results.contenders[2].measurement.pairs()["LV_EF_percent"]
    sd = (pair["measured"] - pair["reference"]).std()
    assert table.loc["dadu", "LV EF"] == f"{100 * sd / pair['reference'].mean():.1f} % ({sd:.1f} points)"
    bare = replace(results, contenders=[replace(c, measurement=None) for c in results.contenders])
    assert tables.repeatability_table(bare).empty


def test_shared_trainings_are_counted_once(results):
    spent = tables.expense(results)
    assert spent.trainings == 8  # four models, of which crocnet needs two; on two folds
    table = tables.cost_table(results).set_index("contender")
    assert (
        table.loc["nnunet_2d", "training, h in all"] == "2.00" and table.loc["crocnet", "energy, kWh in all"] == "1.00"
    )
    first = results.contenders[0]
    unknown = {name: cost | {"energy_kWh": None} for name, cost in first.trainings.items()}
    without = replace(results, contenders=[replace(first, trainings=unknown), *results.contenders[1:]])
    assert np.isnan(tables.expense(without).energy_kWh) and spent.energy_kWh == 8 * 0.25


def test_energy_is_what_the_driver_counts(monkeypatch):
    assert gpu_energy(torch.device("cpu")) is None
    nvml = SimpleNamespace(
        NVMLError=RuntimeError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetTotalEnergyConsumption=lambda gpu: {"GPU-abc": 7_200_000_000}[gpu],
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    assert gpu_energy(torch.device("cuda", 0)) == 2.0
    monkeypatch.setattr(nvml, "nvmlInit", lambda: (_ for _ in ()).throw(RuntimeError))
    assert gpu_energy(torch.device("cuda", 0)) is None
    monkeypatch.setitem(sys.modules, "pynvml", None)  # not installed
    assert gpu_energy(torch.device("cuda", 0)) is None


# the checklist


def test_checklist_is_filled_in_from_the_records(page, benchmark, results):
    text = (benchmark.report / "claim.md").read_text()
    assert text.count("- [ ] **") == text.count("To write: ") == len(ITEMS) == 44
    assert "34. Registration as a trial.** Open." in text
    for words in (
        "30 patients, 60 cases",
        "none of those evaluated is in two folds",
        "seed 0",
        "NOR 12",
        "nnUNetCroCNetPlans",
    ):
        assert words in text, words
    content = Content(results, BenchmarkFolder(benchmark.path), "nnunet_2d", 0.01)
    mixed = results.contenders[0].metrics.assign(fold=lambda t: (t["phase"] == "ES").astype(int))
    content.results = replace(results, contenders=[replace(results.contenders[0], metrics=mixed)])
    assert "SHARED" in claim_table(content).set_index("item").loc[20, "from the records"]


def finish_test(benchmark, contender, folds=(0, 1)):
    """The record of a test that is finished."""
    benchmark.finish(
        Job("test", contender.model.name, where=TEST_SET), {"problems": [], "folds": [*folds], "corruptions": []}
    )


def test_patients_in_two_parts_of_a_fold_are_told(results, tmp_path, monkeypatch):
    """Whatever was evaluated: here ED is held out and ES of the same patient trained on."""
    for name in ("raw", "preprocessed"):
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
        (tmp_path / name / "Dataset001_D").mkdir(parents=True)
    cases = pd.DataFrame({"patient": ["p1"], "fold": [0]})
    rows = "".join(f"p{i}_{phase},p{i}\n" for i in (1, 2) for phase in ("ED", "ES"))
    (tmp_path / "raw" / "Dataset001_D" / "cases.csv").write_text(f"case,patient\n{rows}")
    splits = tmp_path / "preprocessed" / "Dataset001_D" / "splits_final.json"
    apart, mixed = ["p1_ED", "p1_ES"], ["p1_ED", "p2_ES"]
    everyone = [f"p{i}_{phase}" for i in (1, 2) for phase in ("ED", "ES")]
    for held_out, told in ((apart, "none is in"), (mixed, "ARE SHARED")):
        splits.write_text(json.dumps([{"train": [c for c in everyone if c not in held_out], "val": held_out}]))
        assert told in _shared_patients("Dataset001_D", cases)


def test_seeds_that_only_some_folds_have_do_not_thin_counts_and_means(results):
    one = results.contenders[0]
    again = one.metrics[one.metrics["fold"] == 1].assign(seed=1)
    missed = one.metrics["state"].where(one.metrics["structure"] != "RV", "missed")
    both = replace(one, metrics=pd.concat([one.metrics.assign(state=missed), again]))
    full = tables.full_table(replace(results, contenders=[both])).set_index(["metric", "structure"])
    n_cases = one.metrics["case"].nunique()
    assert full.loc[("dice", "RV"), list(STATES)].sum() == pytest.approx(n_cases)

    by_phase = tables.phase_table(replace(results, contenders=[one]))  # one training more of some moves no mean
    pd.testing.assert_frame_equal(tables.phase_table(replace(results, contenders=[both])), by_phase)
    by_subset = tables.subset_table(replace(results, contenders=[one]))
    pd.testing.assert_frame_equal(tables.subset_table(replace(results, contenders=[both])), by_subset)


def test_a_seed_that_rightly_finds_nothing_stands_beside_one_that_does(results):
    one = results.contenders[0]
    is_rv = one.metrics["structure"] == "RV"
    spurious, absent = one.metrics.copy(), one.metrics.assign(seed=1)
    spurious.loc[is_rv, ["dice", "hausdorff95_mm"]] = 0.0, 100.0
    absent.loc[is_rv, ["dice", "hausdorff95_mm"]] = np.nan
    both = replace(one, metrics=pd.concat([spurious, absent]))
    assert both.by_case("dice", "RV").unique() == [0.5] and both.by_case("hausdorff95_mm", "RV").unique() == [50]
    assert replace(one, metrics=absent).by_case("dice", "RV").isna().all()


def test_seeds_that_scatter_by_patient_move_means_too(results):
    """Where trainings do not differ on the whole but in single patients, their means still do."""
    one = results.contenders[0]
    random = np.random.default_rng(0)
    seeds = [
        one.metrics.assign(seed=seed, dice=(one.metrics["dice"] + random.normal(0, 0.05, len(one.metrics))))
        for seed in range(3)
    ]
    table = tables.variance_table(replace(results, contenders=[replace(one, metrics=pd.concat(seeds))])).iloc[0]
    chance = float(table["sd of a difference of means, seeds alone"])
    of_rest = float(table["sd of Dice, rest"]) * np.sqrt(2 / (3 * int(table["patients"])))
    assert chance >= of_rest * 0.99 > 0.001


def test_odd_records_are_shown_as_far_as_they_go(results, benchmark, tmp_path, monkeypatch):
    one = results.contenders[0]
    single = replace(one, metrics=one.metrics[one.metrics["case"] == one.metrics["case"].iloc[0]])
    table = tables.summary_table(
        alone := replace(results, contenders=[single]), tables.full_table(alone), None, one.name
    )
    assert not table.astype(str).apply(lambda column: column.str.contains("nan")).any(axis=None)
    nothing = replace(results, contenders=[replace(one, metrics=one.metrics.assign(dice=np.nan))])
    monkeypatch.setattr("nnunet_cardiac.benchmark.report.load", lambda _: nothing)
    with pytest.raises(UserError, match="neither experts nor contenders have a structure in any case"):
        write_report(benchmark.path, tmp_path)


def test_tables_that_are_not_written_do_not_stay(results, tmp_path):
    content = Content(replace(results, contenders=results.contenders[1:2]), SimpleNamespace(), NAMES[0], 0.01)
    for name in ("tests", "tests_full", "somebodys"):
        (tmp_path / f"{name}.csv").write_text("old")
    empty, titled = sections.Table("tests", "Tests", pd.DataFrame()), pd.DataFrame({"a": [1]})
    _write_tables([empty, sections.Table("external", "Another: Dataset033_M&Ms", titled)], content, tmp_path)
    assert {f.stem for f in tmp_path.glob("*.csv")} == {"somebodys", "metrics_full", "external"}
    assert "{Another: Dataset033\\_M\\&Ms}" in (tmp_path / "tables.tex").read_text()


def test_the_margin_is_that_of_the_benchmark(results):
    given = replace(results.settings, margin=0.02)
    assert replace(results.settings, margin=None).with_earlier(given, "here").margin == 0.02
    assert "--margin 0.02" in _command(replace(results, settings=given))
    assert "--margin" not in _command(results)


def test_a_damaged_table_of_a_test_is_named(results, benchmark):
    file = benchmark.evaluation(results.contenders[0].model, TEST_SET) / "metrics.csv"
    file.parent.mkdir(parents=True)
    try:
        file.write_text("case,structure,dice\nA_ED,LV,good\n")
        finish_test(benchmark, results.contenders[0])
        tested = _load_test(benchmark, results.settings, results.contenders, TEST_SET)
    finally:
        shutil.rmtree(file.parent)
        benchmark.record(Job("test", results.contenders[0].model.name, where=TEST_SET)).unlink()
    assert not tested.contenders and len(tested.problems) == 1 and str(file) in tested.problems[0]


def test_patients_of_a_further_test_are_measured_too(results, benchmark):
    first = results.contenders[0]
    place = benchmark.evaluation(first.model, TEST_SET)
    place.mkdir(parents=True)
    try:
        first.metrics.to_csv(place / "metrics.csv", index=False)
        for name in ("indices", "reference"):
            table = pd.DataFrame({"patient": ["A", "B"], "LV_EF_percent": [50.0, 60.0 + (name == "indices")]})
            table.to_csv(place / f"{name}.csv", index=False)
        assert not _load_test(benchmark, results.settings, [first], TEST_SET).contenders, "it has not finished"
        finish_test(benchmark, first, folds=[0])
        assert not _load_test(benchmark, results.settings, [first], TEST_SET).contenders, "another ensemble"
        benchmark.finish(Job("test", first.model.name, where=TEST_SET), {"problems": []})
        assert not _load_test(benchmark, results.settings, [first], TEST_SET).contenders, "nobody knows of what"
        finish_test(benchmark, first)
        tested = replace(results, tests={TEST_SET: _load_test(benchmark, results.settings, [first], TEST_SET)})
        parts = sections.beyond(Content(tested, BenchmarkFolder(benchmark.path), "nnunet_2d", 0.01)).tables()
    finally:
        shutil.rmtree(place)
        benchmark.record(Job("test", first.model.name, where=TEST_SET)).unlink()
    agreement = next(table.data for table in parts if table.name == f"{TEST_SET}_agreement").iloc[0]
    assert agreement[["index", "patients", "bias"]].tolist() == ["LV_EF_percent", "2", "+0.5"]


def test_what_a_reader_must_know_is_told(results):
    def told(**changes) -> list[str]:
        changed = [
            replace(c, trainings={key: cost | changes.get(c.name, {}) for key, cost in c.trainings.items()})
            for c in results.contenders
        ]
        return replace(results, contenders=changed).remarks

    fair = {"chosen_on": "training patients"}
    assert not told(dadu=fair)
    (remark,) = told(dadu=fair, nnunet_2d={"budget": 10, "bfloat16": True})
    assert remark == (
        "nnunet_2d was found trained, with a budget of 10 steps and an initial learning rate of 0.01, in bfloat16."
    )
    assert told(dadu=fair, nnunet_2d={"is_own_rate": False, "initial_lr": 0.5})[0].endswith("rate of 0.5.")
    assert told()[0].startswith("In favour of dadu: the recipe keeps its best epoch")  # also where nothing tells
    unknown = [replace(c, trainings={}) for c in results.contenders]
    assert "In favour of dadu" in replace(results, contenders=unknown).remarks[0]


def test_the_command_can_be_given_again(results):
    contenders = results.settings.contenders
    matched = {"matched_dadu": replace(contenders["dadu"], name="matched_dadu", matched_to="dadu")}
    mine = {"mine": replace(contenders["dadu"], name="mine")}
    settings = replace(results.settings, contenders=contenders | matched | mine, bfloat16=True, match="memory")
    command = _command(replace(results, settings=settings))
    assert "--contenders nnunet_2d crocnet dadu e2aunet mine --contenders_file FILE -f 0 1" in command
    assert command.endswith("--bfloat16 --baseline matched --match memory")


def test_what_was_trained_is_told_by_stage(results):
    table = tables.plans_table(results)
    assert table[table["contender"] == "crocnet"]["stage"].tolist() == ["2d", "2d_cascade"]
    row = table[table["contender"] == "dadu"].iloc[0]
    assert row.tolist()[2:] == [
        "nnUNetDADUPlans", "Network", "16 to 128", "4", "1.5 x 1.4", "128 x 112", "8", "1000", "0.01", "float16",
    ]  # fmt: skip
    bare = [replace(c, trainings={}) for c in results.contenders]
    assert tables.plans_table(replace(results, contenders=bare)).empty


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": ["a"]}, {"seeds": []}, {"tests": [1]}, {"match": None}, {"lr_factors": 3.0}, {"initial_lr": [[]]},
        {"baseline": "\x1b[2J"}, {"contenders": {"a": asdict(BUILT_IN["dadu"])}},
        {"dataset": "a" * 300}, {"budget": 10**400},
    ],
)  # fmt: skip
def test_damaged_settings_are_named(results, tmp_path, change):
    (tmp_path / "settings.json").write_text(json.dumps(results.settings.to_json() | change))
    with pytest.raises(UserError, match=r"settings\.json holds [^\x1b]*$"):
        BenchmarkFolder(tmp_path).read_settings()


MODEL = "nnUNetTrainerDADU__nnUNetDADUPlans__2d"


@pytest.mark.parametrize(
    "file, was, will_be",
    [
        ("jobs/train/*/fold_1.json", '"seed": 0', '"seed": "a"'),
        ("jobs/train/*/fold_1.json", '"peak_memory_of": "GPU"', '"peak_memory_of": ["GPU"]'),
        ("jobs/train/*/fold_1.json", '"versions": {', '"version": {'),
        ("jobs/cost/*.json", '"parameters": ', '"parameters": "5", "more": '),
        ("evaluation/*/fold_1/metrics.csv", ",state,", ",stat,"),
        ("evaluation/*/fold_1/metrics.csv", ",RV,scored,", ",,scored,"),
        ("evaluation/*/fold_1/metrics.csv", ",RV,scored,", ",RV,1,"),
        ("evaluation/*/fold_1/metrics.csv", ",RV,scored,0", ",RV,scored,inf,0"),
        ("evaluation/*/fold_0/metrics.csv", ",RV,", ",LA,"),
        ("evaluation/*/fold_1/anatomy.csv", ",prediction,", ",predict,"),
    ],
)
def test_a_contender_with_a_damaged_file_is_left_out(benchmark, tmp_path, file, was, will_be):
    place = BenchmarkFolder(shutil.copytree(benchmark.path, tmp_path / "benchmark"))
    (damaged,) = place.path.glob(file.replace("*", MODEL))
    text = damaged.read_text()
    assert was in text
    damaged.write_text(text.replace(was, will_be, -1 if was == ",RV," else 1))
    found = load(place)
    assert [c.name for c in found.contenders] == ["nnunet_2d", "crocnet", "e2aunet"]
    (problem,) = found.problems
    assert problem.startswith("dadu: ") and damaged.name in problem and MODEL in problem


def test_what_a_record_says_does_not_command_the_terminal(benchmark, tmp_path):
    place = BenchmarkFolder(shutil.copytree(benchmark.path, tmp_path / "benchmark"))
    place.finish(Job("evaluate", MODEL, 0), {"problems": ["\x1b[2J"]})
    assert load(place).problems == ["dadu, fold 0:  [2J"]
