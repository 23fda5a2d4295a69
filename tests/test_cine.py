"""From study to report: what is measured is what the phantom has, and nothing is lost, mixed up or given away."""

import json
import re
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from conftest import CASCADE, DATASET
from pydicom.errors import BytesLengthException

from nnunet_cardiac.cine import cohort as cine_cohort
from nnunet_cardiac.cine import run as cine_run
from nnunet_cardiac.cine.cohort import folder_name, report_cohort
from nnunet_cardiac.cine.dicom import is_dicom
from nnunet_cardiac.cine.read import read_cine
from nnunet_cardiac.cine.run import Options, Segmenter, load_segmenter, report_patient
from nnunet_cardiac.cine.segment import segment_cine
from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference.predict import StagePredictor
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
        self.configuration = SimpleNamespace(spacing=[2.0, 2.0], patch_size=list(patch), configuration={})
        self.plans = SimpleNamespace(transpose_forward=[0, 1, 2])
        self.network = torch.nn.Identity()
        self.predictor = SimpleNamespace(
            label_manager=SimpleNamespace(has_regions=False), copies=None, unmirrored=nullcontext
        )
        self.calls, self.fails_at = [], None

    check_size = StagePredictor.check_size

    def preprocess(self, image, properties, previous):
        labels = self.known[image[0].tobytes()]
        top = int(image[0, 0, 0, 0]) % 3  # another crop in each phase, as nnU-Net makes where borders are 0
        properties = {
            "shape_after_cropping_and_before_resampling": (len(labels), labels.shape[1] - top, labels.shape[2]),
            "bbox_used_for_cropping": [[0, len(labels)], [top, labels.shape[1]], [0, labels.shape[2]]],
            "top": top,
        }
        return torch.from_numpy(labels[None, :, top:].astype(np.float32)), properties

    def logits(self, data):
        if len(self.calls) == self.fails_at:
            raise KeyboardInterrupt
        self.calls.append(tuple(data.shape[-2:]))
        if self.predictor.copies is not None:
            self.predictor.copies |= {(): data[0].to(torch.uint8), (3,): data[0].to(torch.uint8)}
        return torch.stack([(data[0] == value).half() for value in range(4)])

    def segment(self, logits, properties, probabilities=False):
        found = logits.argmax(0).numpy().astype(np.uint8)
        return np.pad(found, ((0, 0), (properties["top"], 0), (0, 0))), None


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
    assert all(columns == 72 for _, columns in stage.calls[:2]) and len(stage.calls) == 2 + 8
    (top, bottom), (left, right) = segmented.box
    heart = np.argwhere(study.labels.any((0, 1)))
    assert top < heart[:, 0].min() and bottom > heart[:, 0].max() + 1
    assert left < heart[:, 1].min() and right > heart[:, 1].max() + 1
    assert all(abs(rows - (bottom - top)) <= 2 and columns < 72 for rows, columns in stage.calls[2:])
    assert (segmented.disagreement == 0).all()


@pytest.mark.parametrize("patch", [(20, 20), (75, 68), (200, 200)])
def test_a_window_is_at_least_a_patch_and_inside_the_image(study, patch):
    stage = Oracle(study, patch=patch)
    np.testing.assert_array_equal(segment_cine(read_cine(study.folder), [stage]).labels, study.labels)
    for rows, columns in stage.calls[2:]:
        assert min(patch[0], 78) <= rows <= 80 and min(patch[1], 72) <= columns <= 72


def test_labels_that_overlap_are_refused(study):
    stage = Oracle(study)
    stage.predictor.label_manager.has_regions = True
    with pytest.raises(UserError, match="regions that overlap"):
        segment_cine(read_cine(study.folder), [stage])


def test_without_a_heart_all_is_looked_at(study):
    stage = Oracle(study)
    stage.known = {image: np.zeros_like(labels) for image, labels in stage.known.items()}
    segmented = segment_cine(read_cine(study.folder), [stage])
    assert segmented.box is None and not segmented.labels.any()


def test_a_network_that_must_see_the_whole_image_does(study):
    stage = Oracle(study)
    stage.configuration.configuration["patch_covers_image"] = True
    assert segment_cine(read_cine(study.folder), [stage]).box is None
    stage.network.crop = object()  # it crops by itself, from the stage before
    assert segment_cine(read_cine(study.folder), [stage]).box is not None
    stage.network.resize = object()
    assert segment_cine(read_cine(study.folder), [stage]).box is None


def test_indices_are_those_of_the_phantom(study, reported):
    record, output = reported
    voxel = np.prod(np.linalg.norm(study.affine[:3, :3], axis=0)) / 1000
    lv = (study.labels == 3).sum((1, 2, 3)) * voxel
    ed, es = record["ed_phase"] - 1, record["es_phase"] - 1
    assert abs(ed - lv.argmax()) in (0, 1, 7) and abs(es - lv.argmin()) <= 1
    edv, esv = lv[ed], lv[es]
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
    assert (record["ed_phase"], record["es_phase"]) == (4, 1)
    with pytest.raises(UserError, match="--es 9: the phases are 1 to 8"):
        report_patient(study.folder, tmp_path / "other", segmenter(Oracle(study)), Options(es=8))


def test_what_is_finished_is_kept(study, tmp_path):
    first = report_patient(study.folder, tmp_path, segmenter(Oracle(study)), Options())
    idle = Oracle(study)
    assert report_patient(study.folder, tmp_path, segmenter(idle), Options()) == first and not idle.calls
    with pytest.raises(UserError, match="use --overwrite"):
        report_patient(study.folder, tmp_path, segmenter(idle), Options(ed=1))
    assert report_patient(study.folder, tmp_path, segmenter(idle), Options(ed=1, overwrite=True))["ed_phase"] == 2


@pytest.mark.parametrize("attribute", ["PatientName", "StudyInstanceUID"])
def test_a_report_is_of_the_study_as_it_is_now(study, tmp_path, attribute):
    """Its DICOM objects name patient and study."""
    folder, options = shutil.copytree(study.folder, tmp_path / "in"), Options(keep_identifiers=True)
    report_patient(folder, tmp_path / "out", segmenter(Oracle(study)), options)
    for file in folder.rglob("*"):
        if file.is_file() and is_dicom(file):
            dicom = pydicom.dcmread(file)
            setattr(dicom, attribute, "1.2.3.4")
            dicom.save_as(file)
    with pytest.raises(UserError, match="use --overwrite"):
        report_patient(folder, tmp_path / "out", segmenter(Oracle(study)), options)


def test_what_was_interrupted_goes_on(study, tmp_path):
    """With the phases that were done, and to the same end."""
    stage = Oracle(study)
    stage.fails_at = 2 + 4
    with pytest.raises(KeyboardInterrupt):
        report_patient(study.folder, tmp_path / "a", segmenter(stage), Options())
    assert not (tmp_path / "a" / "indices.json").exists()
    piece = sorted((tmp_path / "a" / "unfinished").rglob("0.npz"))[0]
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


def test_a_cohort(cohort, tmp_path, capsys):
    source, studies, name = cohort
    stage = Oracle(*studies)
    problems = report_cohort(source, tmp_path / "out", segmenter(stage), Options())
    names = {patient.name: folder_name(patient, keep_identifiers=False) for patient in source.iterdir()}
    assert names["empty"].startswith("patient_") and f"one is called {names['one']}" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "out" / "cohort.csv").set_index("patient")
    assert len(table) == 5 and table["report"].notna().sum() == 3
    assert len(problems) == 2 and "no spacing" in table.loc[names["broken"], "problem"]
    problem = table.loc[names["empty"], "problem"]
    assert "no DICOM image" in problem and str(source) not in problem
    assert table.loc[names["one"], "LV_EDV_mL"] > 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert f'href="{names["one"]}/report.html"' in page and "no spacing" in page
    everything = page + (tmp_path / "out" / "cohort.csv").read_text() + str(list((tmp_path / "out").iterdir()))
    assert name not in everything and not any(w in everything for study in studies for w in study.identifiers)
    n = len(stage.calls)
    shutil.copytree(source / "one", source / "one again")
    (problem,) = [p for p in report_cohort(source, tmp_path / "out", segmenter(stage), Options()) if "again" in p]
    assert "is the same study as" in problem
    shutil.rmtree(source / "one again")
    report_cohort(source, tmp_path / "out", segmenter(stage), Options())
    assert len(stage.calls) == n, "a second run has nothing to segment"
    shutil.rmtree(source / "empty")
    report_cohort(source, tmp_path / "out", segmenter(stage), Options())
    assert len(pd.read_csv(tmp_path / "out" / "cohort.csv")) == 4


def test_a_cohort_that_was_interrupted_keeps_its_lines(cohort, tmp_path, monkeypatch):
    source, studies, _ = cohort
    report_cohort(source, tmp_path / "out", segmenter(Oracle(*studies)), Options())
    monkeypatch.setattr(cine_cohort, "report_patient", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        report_cohort(source, tmp_path / "out", segmenter(Oracle(*studies)), Options())
    assert len(pd.read_csv(tmp_path / "out" / "cohort.csv")) == 5


def test_a_full_gpu_stops_one_patient_and_is_told_with_the_way_out(cohort, tmp_path, monkeypatch):
    source, _, _ = cohort
    full = (_ for _ in ()).throw
    monkeypatch.setattr(cine_cohort, "report_patient", lambda *a: full(torch.OutOfMemoryError("CUDA out of memory")))
    problems = report_cohort(source, tmp_path / "out", None, Options())
    told = pd.read_csv(tmp_path / "out" / "cohort.csv")["problem"]
    assert len(problems) == len(told) == 5 and told.str.contains("GPU has too little memory.*predict --memory").all()


def test_the_cohorts_page_tells_only_what_is_known(tmp_path):
    found = {"patient": "a & b", "report": "a & b/report.html", "problem": "", "LV_EDV_mL": 150.6, "RV_EDV_mL": np.nan}
    lost = {"patient": "c", "report": "", "problem": "c holds <nothing>."}
    cine_cohort._write([found | {"flags": "Base not covered"}, lost], tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert '<a href="a%20%26%20b/report.html">a &amp; b</a>' in page and "c holds &lt;nothing&gt;." in page
    numbers = re.findall("<td>(.*)</td>", page)
    assert numbers.count("151") == 1 and numbers.count("") == 11 and "nan" not in page


def test_patients_that_are_called_by_numbers_keep_their_lines(tmp_path):
    cine_cohort._write([{"patient": "001", "report": "001/report.html", "problem": ""}], tmp_path)
    assert [row["patient"] for row in cine_cohort._earlier(tmp_path / "cohort.csv")] == ["001"]


def test_a_patient_that_fails_in_an_unforeseen_way_does_not_stop_the_rest(cohort, tmp_path, monkeypatch):
    source, studies, _ = cohort
    for other in ("broken", "empty", next(source.glob("study_*")).name):
        shutil.rmtree(source / other)
    real = cine_run.read_cine

    def fails(patient, series):
        if patient.name == "one":
            raise ZeroDivisionError("Doe^John")
        return real(patient, series)

    monkeypatch.setattr(cine_run, "read_cine", fails)
    problems = report_cohort(source, tmp_path / "out", segmenter(Oracle(*studies)), Options(keep_identifiers=True))
    assert len(problems) == 1 and "ZeroDivisionError: Doe^John" in problems[0]
    assert (tmp_path / "out" / "two" / "report.html").is_file()
    assert "Doe" not in (tmp_path / "out" / "cohort.csv").read_text() + (tmp_path / "out" / "index.html").read_text()


def test_paths_in_sentences_name_nobody(cohort):
    source, _, _ = cohort
    (source / "one" / "DOE_JOHN").mkdir()
    (source / "one" / "DOE_JOHN" / "IM1").touch()
    sentence = f"{source / 'one' / 'DOE_JOHN' / 'IM1'} is cut off; {source / 'one'} too."
    assert cine_cohort._without_paths(sentence, source / "one", "p") == "p is cut off; p too."


def test_two_runs_at_once(study, tmp_path):
    """The second says so, and the first is not disturbed."""

    class Second(Oracle):
        def logits(self, data):
            if not self.calls:
                with pytest.raises(UserError, match="is being written by process"):
                    report_patient(study.folder, tmp_path, segmenter(Oracle(study)), Options())
            return super().logits(data)

    assert report_patient(study.folder, tmp_path, segmenter(Second(study)), Options())["indices"]


def test_outputs_do_not_go_into_the_study(study, cohort):
    for run, source in ((report_patient, study.folder), (report_cohort, cohort[0])):
        with pytest.raises(UserError, match="is inside"):
            run(source, source / "out", segmenter(Oracle(study)), Options())


def test_another_patients_dicom_objects_do_not_stay(study, cohort, tmp_path):
    report_patient(study.folder, tmp_path / "out", segmenter(Oracle(study)), Options())
    source, studies, _ = cohort
    report_patient(source / "one", tmp_path / "out", segmenter(Oracle(*studies)), Options(overwrite=True))
    studies_named = {pydicom.dcmread(file).StudyInstanceUID for file in (tmp_path / "out" / "dicom").iterdir()}
    assert len(studies_named) == 1


@pytest.mark.parametrize("kind", [ValueError, BytesLengthException])
def test_dicom_objects_that_cannot_be_made_do_not_cost_the_report(study, tmp_path, monkeypatch, capsys, kind):
    def fails(*arguments):
        raise kind("a header is odd")

    monkeypatch.setattr("nnunet_cardiac.cine.output.write_segmentations", fails)
    report_patient(study.folder, tmp_path, segmenter(Oracle(study)), Options())
    assert (tmp_path / "report.html").is_file() and not (tmp_path / "dicom").exists()
    assert "left out: DICOM objects" in capsys.readouterr().err


def test_an_output_that_is_a_file(study, tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(UserError, match="out cannot be written"):
        report_patient(study.folder, tmp_path / "out", segmenter(Oracle(study)), Options())


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
    main(["cine", "-i", str(study.folder), "--list", "--series", "99"])
    assert "There is no series 99" in capsys.readouterr().out
    main(["cine", "-i", str(study.folder), "--list"])
    printed = capsys.readouterr().out
    assert printed.count("short-axis cine") == 5 and "cine of one plane" in printed


@pytest.mark.parametrize(
    "arguments, because",
    [
        (("-i", "nowhere", "-o", "x"), "nowhere does not exist"),
        (("-i", "nowhere", "--list"), "nowhere does not exist"),
        (("-i", "."), "-o is missing"),
        (("-i", ".", "-o", "x", "--height", "1.8"), "--height is in cm"),
        (("-i", ".", "-o", "x", "--cohort", "--weight", "80"), "is of one patient"),
        (("-i", ".", "-o", "x", "-f", "0"), "-f is for a model that was trained here"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(arguments, because, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=because):
        main(["cine", *arguments])
