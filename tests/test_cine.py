"""From study to report: what is measured is what the phantom has, and nothing is lost, mixed up or given away."""

import json
import shutil
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CASCADE, DATASET

from nnunet_cardiac.cine import run as cine_run
from nnunet_cardiac.cine.read import read_cine
from nnunet_cardiac.cine.run import Options, Segmenter, folder_name, load_segmenter, report_cohort, report_patient
from nnunet_cardiac.cine.segment import find_heart, segment_cine
from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.model import Model
from nnunet_cardiac.phantom.dicom import PhantomStudy, write_study

LABELS = {"background": 0, "RV": 1, "MYO": 2, "LV": 3}
_, _, _, TRAINER, _, PLANS, _, CONFIGURATION = CASCADE


class Oracle:
    """A stage that knows the truth of the phantoms that it was told of; it counts what it is asked."""

    def __init__(self, *studies: PhantomStudy, patch=(48, 48)):
        self.known = {
            image.astype(np.float32).tobytes(): labels
            for study in studies
            for image, labels in zip(study.images, study.labels, strict=True)
        }
        self.dataset_json = {"channel_names": {"0": "MRI"}, "labels": LABELS, "file_ending": ".nii.gz"}
        self.configuration = SimpleNamespace(spacing=[1.6, 1.6], patch_size=list(patch), configuration={})
        self.network = torch.nn.Identity()
        self.predictor = SimpleNamespace(label_manager=SimpleNamespace(has_regions=False), copies=None)
        self.calls, self.fails_at = [], None

    def preprocess(self, image, properties, previous):
        return torch.from_numpy(self.known[image[0].tobytes()][None].astype(np.float32)), {}

    def logits(self, data):
        if len(self.calls) == self.fails_at:
            raise KeyboardInterrupt
        self.calls.append(tuple(data.shape[-2:]))
        if self.predictor.copies is not None:
            self.predictor.copies |= {(): data[0].to(torch.uint8), (3,): data[0].to(torch.uint8)}
        return torch.stack([(data[0] == value).half() for value in range(4)])

    def segment(self, logits, properties, probabilities=False):
        return logits.argmax(0).numpy().astype(np.uint8), None


def segmenter(stage, **more):
    return Segmenter([stage], {"name": "oracle", "version": "1"}, "oracle", False, None, **more)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return write_study(
        tmp_path_factory.mktemp("study") / "study", "siemens", n_slices=5, n_phases=8, shape=(80, 72), spacing=2.0
    )


@pytest.fixture(scope="module")
def reported(study, tmp_path_factory):
    """A phantom's report: what it says, and its folder."""
    output = tmp_path_factory.mktemp("report") / "out"
    return report_patient(study.folder, output, segmenter(Oracle(study)), Options(height=1.8, weight=80)), output


def test_the_heart_is_found_once_and_nothing_is_lost(study):
    cine, stage = read_cine(study.folder), Oracle(study)
    segmented = segment_cine(cine, [stage])
    np.testing.assert_array_equal(segmented.labels, study.labels)
    rows, columns = segmented.window
    assert stage.calls[:2] == [(80, 72)] * 2 and len(stage.calls) == 2 + 8
    assert set(stage.calls[2:]) == {(rows.stop - rows.start, columns.stop - columns.start)} != {(80, 72)}
    assert (segmented.disagreement == 0).all()


def test_a_window_is_at_least_a_patch_and_inside_the_image(study):
    cine = read_cine(study.folder)
    for patch in ((20, 20), (75, 68), (200, 200)):
        rows, columns = find_heart(cine, [Oracle(study, patch=patch)], Structures.named(LABELS))
        assert 0 <= rows.start and rows.stop <= 80 and 0 <= columns.start and columns.stop <= 72
        assert rows.stop - rows.start >= min(patch[0], 80) and columns.stop - columns.start >= min(patch[1], 72)


def test_without_a_heart_all_is_looked_at(study):
    stage = Oracle(study)
    stage.known = {image: np.zeros_like(labels) for image, labels in stage.known.items()}
    segmented = segment_cine(read_cine(study.folder), [stage])
    assert segmented.window is None and not segmented.labels.any()


def test_a_network_that_must_see_the_whole_image_does(study):
    stage = Oracle(study)
    stage.configuration.configuration["patch_covers_image"] = True
    assert segment_cine(read_cine(study.folder), [stage]).window is None
    stage.network.crop = object()  # it crops by itself, from the stage before
    assert segment_cine(read_cine(study.folder), [stage]).window is not None
    stage.network.resize = object()
    assert segment_cine(read_cine(study.folder), [stage]).window is None


def test_indices_are_those_of_the_phantom(study, reported):
    record, output = reported
    voxel = np.prod(np.linalg.norm(study.affine[:3, :3], axis=0)) / 1000
    lv = (study.labels == 3).sum((1, 2, 3)) * voxel
    assert abs(record["ed_phase"] - lv.argmax()) in (0, 1, 7) and abs(record["es_phase"] - lv.argmin()) <= 1
    edv, esv = lv[record["ed_phase"]], lv[record["es_phase"]]
    indices = record["indices"]
    assert indices["LV_EDV_mL"] == pytest.approx(edv) and indices["LV_ESV_mL"] == pytest.approx(esv)
    assert indices["LV_EF_percent"] == pytest.approx(100 * (edv - esv) / edv)
    assert indices["LV_CO_L_min"] == pytest.approx((edv - esv) * record["heart_rate"] / 1000)
    assert indices["LV_EDV_index_mL_m2"] == pytest.approx(edv / 2.0)
    volumes = pd.read_csv(output / "volumes.csv")
    np.testing.assert_allclose(volumes["LV_mL"], lv, rtol=1e-4)
    table = pd.read_csv(output / "indices.csv").set_index("index")
    assert table.loc["LV_EDV_mL", "unit"] == "mL" and table.loc["LV_EDV_mL", "value"] == pytest.approx(edv, rel=1e-4)
    image = nib.load(output / "segmentation.nii.gz")
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(3, 2, 1, 0), study.labels)
    np.testing.assert_allclose(image.affine, study.affine, atol=1e-3)


def test_everything_is_there(reported):
    _, output = reported
    assert sorted(f.name for f in output.iterdir()) == [
        "dicom", "indices.csv", "indices.json", "report.html", "segmentation.nii.gz", "volumes.csv",
    ]  # fmt: skip
    assert len(list((output / "dicom").iterdir())) == 8 + 1
    assert "oracle" in (output / "report.html").read_text()


def test_no_output_has_a_name_or_an_identifier(study, reported):
    _, output = reported
    for file in output.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            if file.name.endswith(".nii.gz"):
                content = bytes(nib.load(file).header.binaryblock)
            assert not [word for word in study.identifiers if word.encode() in content], file


def test_identifiers_are_kept_where_asked(study, tmp_path):
    report_patient(study.folder, tmp_path, segmenter(Oracle(study)), Options(keep_identifiers=True))
    content = (tmp_path / "dicom" / "measurements.dcm").read_bytes()
    assert any(word.encode() in content for word in study.identifiers)
    assert not any(word in (tmp_path / "report.html").read_text() for word in study.identifiers)


def test_phases_can_be_chosen(study, tmp_path):
    record = report_patient(study.folder, tmp_path, segmenter(Oracle(study)), Options(ed=3, es=0))
    assert (record["ed_phase"], record["es_phase"]) == (3, 0)
    with pytest.raises(UserError, match="--es 8: the phases are 0 to 7"):
        report_patient(study.folder, tmp_path / "other", segmenter(Oracle(study)), Options(es=8))


def test_what_is_finished_is_kept(study, tmp_path):
    first = report_patient(study.folder, tmp_path, segmenter(Oracle(study)), Options())
    idle = Oracle(study)
    assert report_patient(study.folder, tmp_path, segmenter(idle), Options()) == first and not idle.calls
    with pytest.raises(UserError, match="use --overwrite"):
        report_patient(study.folder, tmp_path, segmenter(idle), Options(ed=1))
    assert report_patient(study.folder, tmp_path, segmenter(idle), Options(ed=1, overwrite=True))["ed_phase"] == 1


def test_what_was_interrupted_goes_on(study, tmp_path):
    """With the phases that were done, and to the same end."""
    stage = Oracle(study)
    stage.fails_at = 2 + 4
    with pytest.raises(KeyboardInterrupt):
        report_patient(study.folder, tmp_path / "a", segmenter(stage), Options())
    assert not (tmp_path / "a" / "indices.json").exists()
    piece = sorted((tmp_path / "a" / "unfinished").rglob("0.npy"))[0]
    piece.write_bytes(piece.read_bytes()[:50])  # the kill came while it was written
    again = Oracle(study)
    record = report_patient(study.folder, tmp_path / "a", segmenter(again), Options())
    assert len(again.calls) == 2 + 8 - 3
    assert record == report_patient(study.folder, tmp_path / "b", segmenter(Oracle(study)), Options())
    assert not (tmp_path / "a" / "unfinished").exists()
    for name in ("volumes.csv", "indices.csv", "segmentation.nii.gz"):
        assert (tmp_path / "a" / name).read_bytes()[10:] == (tmp_path / "b" / name).read_bytes()[10:]


@pytest.fixture
def cohort(tmp_path):
    """Two patients, a folder without images, and a study with no short axis."""
    size = {"n_slices": 5, "n_phases": 8, "shape": (64, 56), "others": False}
    one = write_study(tmp_path / "in" / "one", "ge", seed=1, **size)
    two = write_study(tmp_path / "in" / "two", "enhanced", seed=2, group="DCM", **size)
    broken = write_study(tmp_path / "in" / "broken", "ge", seed=3, faults=("missing_spacing",), **size)
    (tmp_path / "in" / "empty").mkdir()
    named = write_study(tmp_path / "in" / "x", "siemens", seed=4, **size)
    name = max((word for word in named.identifiers if word.isalnum()), key=len)
    (tmp_path / "in" / "x").rename(tmp_path / "in" / f"study_{name}")
    return tmp_path / "in", (one, two, broken, named), name


def test_a_cohort(cohort, tmp_path):
    source, studies, name = cohort
    stage = Oracle(*studies)
    problems = report_cohort(source, tmp_path / "out", segmenter(stage), Options())
    table = pd.read_csv(tmp_path / "out" / "cohort.csv").set_index("patient")
    assert len(table) == 5 and table["report"].notna().sum() == 3
    assert len(problems) == 2 and "no spacing" in table.loc["broken", "problem"]
    assert "no DICOM image" in table.loc["empty", "problem"] and str(source) not in table.loc["empty", "problem"]
    assert table.loc["one", "LV_EDV_mL"] > 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert 'href="one/report.html"' in page and "no spacing" in page
    everything = page + (tmp_path / "out" / "cohort.csv").read_text() + str(list((tmp_path / "out").iterdir()))
    assert name not in everything and not any(w in everything for study in studies for w in study.identifiers)
    n = len(stage.calls)
    report_cohort(source, tmp_path / "out", segmenter(stage), Options())
    assert len(stage.calls) == n, "a second run has nothing to segment"


def test_a_patient_that_fails_in_an_unforeseen_way_does_not_stop_the_rest(cohort, tmp_path, monkeypatch):
    source, studies, _ = cohort
    for other in ("broken", "empty", next(source.glob("study_*")).name):
        shutil.rmtree(source / other)
    real = cine_run.read_cine

    def fails(patient, series):
        if patient.name == "one":
            raise ZeroDivisionError("a bug")
        return real(patient, series)

    monkeypatch.setattr(cine_run, "read_cine", fails)
    problems = report_cohort(source, tmp_path / "out", segmenter(Oracle(*studies)), Options())
    assert "one: ZeroDivisionError: a bug" in problems and (tmp_path / "out" / "two" / "report.html").is_file()


def test_names_of_folders_are_kept_unless_they_name_the_patient(cohort):
    source, _, name = cohort
    assert folder_name(source / "one", keep_identifiers=False) == "one"
    assert folder_name(source / f"study_{name}", keep_identifiers=False).startswith("patient_")
    assert folder_name(source / f"study_{name}", keep_identifiers=True) == f"study_{name}"


def test_a_trained_cascade_from_the_command_line(trained_crocnet, tmp_path, capsys):
    """Both stages, on a phantom; the network has learnt next to nothing, but everything runs."""
    written = write_study(tmp_path / "study", "ge", n_slices=3, n_phases=6, shape=(48, 48), spacing=3.0, others=False)
    model = ["-d", "27", "-tr", TRAINER, "-p", PLANS, "-c", CONFIGURATION, "-f", "0", "-device", "cpu"]
    main(["cine", "-i", str(written.folder), "-o", str(tmp_path / "out"), *model, "--height", "170", "--weight", "70"])
    printed = capsys.readouterr().out
    assert "3 slices x 6 phases" in printed and str(tmp_path / "out" / "report.html") in printed
    record = json.loads((tmp_path / "out" / "indices.json").read_text())
    assert record["body_surface_m2"] == pytest.approx(np.sqrt(170 * 70 / 3600))
    assert DATASET in record["model"]["trained on"]
    stages = load_segmenter(Model(DATASET, TRAINER, PLANS, CONFIGURATION), [0]).stages
    assert len(stages) == 2 and np.isfinite(pd.read_csv(tmp_path / "out" / "volumes.csv")["disagreement"]).all()


def test_list(study, capsys):
    main(["cine", "-i", str(study.folder), "--list"])
    printed = capsys.readouterr().out
    assert printed.count("short-axis cine") == 5 and "cine of one plane" in printed


@pytest.mark.parametrize(
    "arguments, because",
    [
        (("-i", "nowhere", "-o", "x"), "nowhere does not exist"),
        (("-i", "."), "-o is missing"),
        (("-i", ".", "-o", "x", "--height", "1.8"), "--height is in cm"),
        (("-i", ".", "-o", "x", "--cohort", "--weight", "80"), "are of one patient"),
        (("-i", ".", "-o", "x", "-f", "0"), "-f is for a model that was trained here"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(arguments, because, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=because):
        main(["cine", *arguments])
