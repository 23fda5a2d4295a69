"""Plans, checkpoints, names: nothing that others have made runs, and nothing that they have written is obeyed."""

import csv
import errno
import json
import os
import pickle
import zipfile
from contextlib import nullcontext
from functools import reduce
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import DATASET, NNUNET
from mutations import Evil

from nnunet_cardiac.cine.cohort import SHOWN
from nnunet_cardiac.cli import main
from nnunet_cardiac.environment import ALLOW_CODE
from nnunet_cardiac.errors import UntrustedError, UserError
from nnunet_cardiac.evaluation.evaluate import evaluate, write_evaluation
from nnunet_cardiac.model import Model
from nnunet_cardiac.pages import template
from nnunet_cardiac.texts import plain, read_rows, write_rows
from nnunet_cardiac.training.train import _set_unreadable_checkpoints_aside
from nnunet_cardiac.training.trust import check_kernels, check_plans, load_checkpoint, stage_names

MODEL = Model(DATASET, *(NNUNET[i] for i in (3, 5, 7)))
FORMULAS = ("=cmd()", "+1+1", "-1+1", "@SUM(A1)", "\t=1")


def damaged(model: Model, folder: Path, change) -> Path:
    """A checkpoint of a model with something else in it."""
    checkpoint = torch.load(model.fold_folder(0) / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    change(checkpoint)
    torch.save(checkpoint, folder / "checkpoint.pth")
    return folder / "checkpoint.pth"


def test_a_checkpoint_of_nnunet_is_loaded_without_running_anything(trained_nnunet, tmp_path):
    file = MODEL.fold_folder(0) / "checkpoint_final.pth"
    ours, theirs = load_checkpoint(file), torch.load(file, map_location="cpu", weights_only=False)
    assert ours.keys() == theirs.keys() and ours["logging"] == theirs["logging"]
    # as NumPy 1 wrote it
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(tmp_path / "old.pth", "w") as new:
        for member in old.infolist():
            content = old.read(member)
            if member.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            new.writestr(member.filename, content)
    assert load_checkpoint(tmp_path / "old.pth")["_best_ema"] == theirs["_best_ema"]


@pytest.mark.parametrize("how", ["inside", "alone", "among the weights"])
def test_code_in_a_checkpoint_is_not_run(trained_nnunet, tmp_path, how):
    evil = Evil(tmp_path / "run")
    if how == "alone":
        file = tmp_path / "checkpoint.pth"
        torch.save(evil, file)
    else:
        change = {
            "inside": lambda c: c.update(more=evil),
            "among the weights": lambda c: c["network_weights"].update(x=evil),
        }
        file = damaged(MODEL, tmp_path, change[how])
    with pytest.raises(UntrustedError, match=r"checkpoint\.pth is not loaded: it names posix\.mkdir.* --allow_code"):
        load_checkpoint(file)
    assert not (tmp_path / "run").exists()


def test_a_pickle_is_no_checkpoint(tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Evil(tmp_path / "run")))
    with pytest.raises(UserError, match="x.pth"):
        load_checkpoint(tmp_path / "x.pth")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error, said",
    [
        (OSError(errno.EIO, "Input/output error"), "cannot be read .Input/output error"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be read .Permission denied"),
        (MemoryError(), "cannot be loaded. This machine has too little memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "cannot be loaded. This machine has too little"),
        (torch.OutOfMemoryError("CUDA out of memory"), "cannot be loaded. The GPU has too little memory"),
    ],
)
def test_a_checkpoint_that_cannot_be_loaded_now_is_not_set_aside(tmp_path, monkeypatch, error, said):
    def fail(*arguments, **options):
        raise error

    (tmp_path / "checkpoint_latest.pth").touch()
    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(UserError, match=rf"checkpoint_latest\.pth {said}"):
        _set_unreadable_checkpoints_aside(str(tmp_path))
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint_latest.pth"]


def test_what_was_set_aside_before_stays(tmp_path):
    for content in ("first", "second", "third"):
        (tmp_path / "checkpoint_latest.pth").write_text(content)
        _set_unreadable_checkpoints_aside(str(tmp_path))
    assert sorted(file.read_text() for file in tmp_path.glob("*.unreadable")) == ["first", "second", "third"]


def test_the_user_may_allow_it(trained_nnunet, tmp_path, monkeypatch):
    file = damaged(MODEL, tmp_path, lambda c: c.update(more=Evil(tmp_path / "run")))
    monkeypatch.setenv(ALLOW_CODE, "1")
    load_checkpoint(file)
    assert (tmp_path / "run").is_dir()


@pytest.fixture
def plans(planned) -> tuple[dict, dict]:
    return tuple(json.loads((planned / name).read_text()) for name in ("nnUNetPlans.json", "dataset.json"))


@pytest.mark.parametrize(
    "name", ["os.system", "torch.nn.Linear", "mine.Network", "nnunetv2.run.run_training.os.system", "torch.hub.load", 5]
)
def test_networks_of_others_are_not_built(plans, name, monkeypatch):
    plans[0]["configurations"]["2d"]["architecture"]["network_class_name"] = name
    with pytest.raises(UntrustedError, match="it is not built.*--allow_code"):
        check_plans(*plans, ["2d"], "plans.json")
    monkeypatch.setenv(ALLOW_CODE, "1")
    if name == "torch.nn.Linear":  # any class is built, which says what it thinks of the arguments
        with pytest.raises(UserError, match="unexpected keyword"):
            check_plans(*plans, ["2d"], "plans.json")


def test_every_command_looks_at_the_plans(trained_nnunet, planned, nnunet_folders, tmp_path, monkeypatch):
    """Trained models and preprocessed data that came from elsewhere."""
    for variable, origin, name in (
        ("nnUNet_results", trained_nnunet / MODEL.name / "plans.json", f"{MODEL.name}/plans.json"),
        ("nnUNet_preprocessed", planned / "nnUNetPlans.json", "nnUNetPlans.json"),
    ):
        target = tmp_path / variable / DATASET / name
        target.parent.mkdir(parents=True)
        plans = json.loads(origin.read_text())
        plans["configurations"]["2d"]["architecture"]["network_class_name"] = "antigravity.Network"
        target.write_text(json.dumps(plans))
        (target.parent / "dataset.json").write_text((origin.parent / "dataset.json").read_text())
        (target.parent / "fold_0").mkdir()
        (target.parent / "fold_0" / "checkpoint_final.pth").touch()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    (tmp_path / "case.nii.gz").touch()
    for command in (
        ["train", *NNUNET, "-f", "0", "-device", "cpu"],
        ["predict", *NNUNET, "-i", str(tmp_path / "case.nii.gz"), "-o", str(tmp_path / "out"), "-device", "cpu"],
        ["cine", *NNUNET, "-i", str(tmp_path / "case.nii.gz"), "-o", str(tmp_path / "out"), "-device", "cpu"],
        ["models", "export", *NNUNET, "-o", str(tmp_path / "x.zip"), "--name", "x"],
    ):
        with pytest.raises(SystemExit, match="antigravity.Network"):
            main(command)


def test_allow_code_reaches_the_processes_that_a_command_starts(monkeypatch):
    monkeypatch.setenv(ALLOW_CODE, "")
    with pytest.raises(SystemExit):
        main(["train", *NNUNET[:1], "999", *NNUNET[2:], "--allow_code"])
    assert os.environ[ALLOW_CODE] == "1"


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_sees_no_formula(text, tmp_path):
    write_rows(tmp_path / "x.csv", pd.DataFrame({"case": [text], "value": [-1.5]}), index=False)
    (row,) = csv.DictReader((tmp_path / "x.csv").read_text().splitlines())
    assert row["case"].startswith(("'", " ")) and row["value"] == "-1.5"
    assert plain(-1.5) == -1.5 and plain("a-1") == "a-1"


def test_names_of_cases_are_harmless_in_tables(tmp_path):
    names = ["=cmd(), x", "a\nb", '"<b>&', "\u00e4 \u5fc3"]
    for side in ("mine", "experts"):
        (tmp_path / side).mkdir()
        for name in names:
            nib.save(
                nib.Nifti1Image(np.eye(3, dtype=np.uint8)[..., None], np.eye(4)), tmp_path / side / f"{name}.nii.gz"
            )
    result = evaluate(tmp_path / "mine", tmp_path / "experts", n_processes=1)
    write_evaluation(result, tmp_path / "out", picture=False)
    rows = read_rows(tmp_path / "out" / "metrics.csv")
    assert {row["case"] for row in rows} == {"'=cmd(), x", "a b", '"<b>&', "\u00e4 \u5fc3"}
    assert len(rows) == len(names)


def test_names_of_files_do_not_command_a_terminal(tmp_path, capsys):
    with pytest.raises(SystemExit, match=r"^nnunet_cardiac: error: /\S+/x \[2J does not exist"):
        main(["cine", "-i", str(tmp_path / "x\x1b[2J"), "--list"])


def test_names_of_files_make_up_no_lines(tmp_path):
    with pytest.raises(SystemExit, match=r"/x\n  left out: y does not exist"):
        main(["cine", "-i", str(tmp_path / "x\nleft out: y"), "--list"])


def test_names_of_patients_are_harmless_in_pages():
    name = "<script>alert(1)</script>"
    row = {"patient": name, "report": f"{name}/x.html", "problem": name}
    page = template("nnunet_cardiac.cine", "cohort.html.j2").render(rows=[row], shown=SHOWN)
    assert name not in page and page.count("&lt;script&gt;") == 2 and page.count("%3Cscript%3E") == 1


def test_a_description_does_not_command_a_terminal(tmp_path, capsys):
    import pydicom

    from nnunet_cardiac.phantom.dicom import write_study

    write_study(tmp_path / "study", "ge", n_slices=3, n_phases=5, shape=(24, 20), spacing=10.0, others=False)
    for file in (f for f in (tmp_path / "study").rglob("*") if f.is_file()):
        dicom = pydicom.dcmread(file)
        dicom.SeriesDescription = "\x1b[2Jcine"
        dicom.save_as(file)
    main(["cine", "-i", str(tmp_path / "study"), "--list"])
    assert "\x1b" not in (printed := capsys.readouterr().out) and "cine" in printed


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.pop("patch_size"),
        lambda c: c.update(patch_size=[65535, 65535]),
        lambda c: c.update(patch_size=["a", 1]),
        lambda c: c.update(batch_size=2**31),
        lambda c: c.update(spacing=[0, float("nan")]),
        lambda c: c.update(spacing=[900, 0.01]),
        lambda c: c.update(data_identifier=5),
        lambda c: c.update(preprocessor_name="Nobody"),
        lambda c: c.update(inherits_from="2d"),
        lambda c: c["architecture"]["arch_kwargs"].update(features_per_stage=[2**31] * 3),
        lambda c: c["architecture"]["arch_kwargs"].update(n_stages="three"),
        lambda c: c["architecture"]["arch_kwargs"].update(n_conv_per_stage=[10**7] * 3),
        lambda c: c["architecture"]["arch_kwargs"].update(n_conv_per_stage=[100] * 3),
        lambda c: c["architecture"]["arch_kwargs"].update(strides=[[1, 1]] * 10**5),
        lambda c: c["architecture"]["arch_kwargs"].update(norm_op_kwargs={"more": [{"n": -(10**400)}]}),
        lambda c: c["architecture"]["arch_kwargs"]["strides"].__setitem__(1, [2]),
        lambda c: c["architecture"]["arch_kwargs"]["strides"].__setitem__(1, 2),
        lambda c: c["architecture"]["arch_kwargs"]["strides"].__setitem__(0, 1e-30),
        lambda c: c["architecture"]["arch_kwargs"]["kernel_sizes"].__setitem__(-1, [3]),
        lambda c: c.update(more=reduce(lambda inside, _: [inside], range(900), 1)),
    ],
)
def test_plans_that_are_none_are_refused_before_anything_is_built(plans, change):
    change(plans[0]["configurations"]["2d"])
    with pytest.raises(UserError, match=r"^nnUNetPlans\.json: they are not those of a model") as error:
        check_plans(*plans, ["2d"], "nnUNetPlans.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "stage, kernel, seen",
    [(2, [255, 3], "255 x 3 on a map of 40 x 32"), (3, [3, 21], "3 x 21 on a map of 20 x 16"), (0, [63, 63], None)],
)
def test_kernels_larger_than_their_maps_are_refused(plans, stage, kernel, seen):
    """They killed a training on a CPU: oneDNN wrote outside of its memory."""
    plans[0]["configurations"]["2d"]["architecture"]["arch_kwargs"]["kernel_sizes"][stage] = kernel
    with pytest.raises(UserError, match=rf"^x\.json: .*\(.*a kernel of {seen}\)") if seen else nullcontext():
        check_plans(*plans, ["2d"], "x.json")


def test_kernels_that_are_no_danger_are_let_pass():
    def check(*layers):
        with torch.device("meta"):
            check_kernels(torch.nn.Sequential(*layers), 4, [6, 6])

    with pytest.raises(ValueError, match="a kernel of 9 x 9 on a map of 6 x 6"):
        check(torch.nn.Conv2d(4, 4, 9, padding=4), torch.nn.Linear(1, 1))  # which would fail
    check(torch.nn.Conv2d(4, 4, 7, padding=3))
    check(torch.nn.Conv2d(4, 4, 9, padding=4, groups=4))
    check(torch.nn.Linear(1, 1), torch.nn.Conv2d(4, 4, 9))  # fails before: nothing is known


@pytest.mark.parametrize(
    "changes, because",
    [
        ({"labels": {"background": 0, **{f"l{i}": i for i in range(1, 300)}}}, "300 labels"),
        ({"channel_names": {str(i): "MR" for i in range(300)}}, "300 channels"),
        ({"channel_names": "MR"}, "no names of channels"),
        ({"labels": {"background": 0, "RV": 1, "LV": 1000}}, "labels .*1000"),
        ({"labels": {"background": 0, "RV": 1, "LV": -3}}, "labels .*-3"),
    ],
)
def test_data_sets_that_no_network_is_for_are_refused(plans, changes, because):
    with pytest.raises(UserError, match=because):
        check_plans(plans[0], plans[1] | changes, ["2d"], "dataset.json")


@pytest.mark.parametrize("previous", ["2d", "nowhere", 5, ["2d"]])
def test_stages_that_lead_in_a_circle(plans, previous):
    plans[0]["configurations"]["2d"]["previous_stage"] = previous
    with pytest.raises(UserError, match="does not tell the stages of 2d"):
        stage_names(MODEL, plans[0], Path("nnUNetPlans.json"))
