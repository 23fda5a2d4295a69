"""Saved models: the same segmentations as what they were exported from, and nothing from a hostile file."""

import json
import os
import pickle
import shutil
import struct
import zipfile

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import CASCADE, DATASET
from safetensors.torch import load_file, save_file

from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.evaluation.segmentation import Structures
from nnunet_cardiac.inference.clean_up import cleaned_up
from nnunet_cardiac.inference.predict import predict
from nnunet_cardiac.model import Model, trained_folder
from nnunet_cardiac.models.export import export, to_nnunet
from nnunet_cardiac.models.saved_model import DESCRIPTION, SavedModel, sha256
from nnunet_cardiac.models.store import find_model, install, installed_folders
from nnunet_cardiac.models.training_images import fingerprinted
from nnunet_cardiac.nifti import read_nifti

_, _, _, TRAINER, _, PLANS, _, CONFIGURATION = CASCADE
UNETS = "dynamic_network_architectures.architectures.unet"
CROCNET = Model(DATASET, TRAINER, PLANS, CONFIGURATION)


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A folder of installed models of the test's own."""
    monkeypatch.setenv("NNUNET_CARDIAC_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture(scope="module")
def exported(trained_crocnet, tmp_path_factory):
    """CroCNet's cascade, both folds, in one file."""
    file = tmp_path_factory.mktemp("exported") / "crocnet.zip"
    export(CROCNET, file, "crocnet", summary="Of phantoms.", licence="none", citation="nobody")
    return file


@pytest.fixture
def folder(exported, store, tmp_path):
    """The exported model, unpacked, to be damaged."""
    with zipfile.ZipFile(exported) as archive:
        archive.extractall(tmp_path / "unpacked")
    return tmp_path / "unpacked"


def described(folder, **changes):
    """Changes the description, and lets it know the files as they are."""
    description = json.loads((folder / DESCRIPTION).read_text())
    for path, entry in description["files"].items():
        if (folder / path).is_file():
            entry |= {"bytes": (folder / path).stat().st_size, "sha256": sha256(folder / path)}
    (folder / DESCRIPTION).write_text(json.dumps(description | changes))


def test_it_segments_as_what_it_was_exported_from(exported, store, phantom_acdc, trained_crocnet, tmp_path):
    install(exported)
    model = find_model("crocnet")
    assert [s.configuration for s in model.stages] == ["2d", CONFIGURATION] and len(model.stages[0].weights) == 2
    image = next(phantom_acdc.glob("testing/*/*_frame01.nii.gz"))
    (tmp_path / "in").mkdir()
    shutil.copy(image, tmp_path / "in" / "case_0000.nii.gz")
    found = []
    for name, which in (("trained", CROCNET), ("saved", model)):
        predict(tmp_path / "in", tmp_path / name, which, device="cpu")
        found.append(read_nifti(tmp_path / name / "case.nii.gz")[0])
    np.testing.assert_array_equal(*found)


def test_it_cleans_up_and_says_what_is_unusual(trained_crocnet, store, phantom_acdc, tmp_path, capsys):
    """As the model was made to; not, when it is asked not to."""
    stage_1 = Model(DATASET, TRAINER, PLANS, "2d")
    install_file = tmp_path / "stage_1.zip"
    export(stage_1, install_file, "stage_1", folds=[0], clean_up=True)
    install(install_file)
    voxels, image = read_nifti(next(phantom_acdc.glob("testing/*/*_frame01.nii.gz")))
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(voxels.astype(np.float32) - 1000, image.affine), tmp_path / "in" / "ct_0000.nii.gz")
    outputs = []
    for choice in ([], ["--no_clean_up"], ["--clean_up"]):
        output = tmp_path / f"out{len(outputs)}"
        main(["predict", "-i", str(tmp_path / "in"), "-o", str(output), "-m", "stage_1", "-device", "cpu", *choice])
        outputs.append(read_nifti(output / "ct.nii.gz")[0])
        assert "warning: ct: values down to -999, as CT has" in capsys.readouterr().err
    cleaned, raw, asked = outputs
    np.testing.assert_array_equal(cleaned, asked)
    assert not np.array_equal(cleaned, raw), "a network that has learnt so little leaves something to be cleaned"
    structures = Structures.named(find_model("stage_1").dataset_json["labels"])
    np.testing.assert_array_equal(cleaned, cleaned_up(raw, structures, slice_axis=2))
    assert find_model("stage_1").training_images == fingerprinted(trained_folder(stage_1)) is not None


def test_a_file_of_several_volumes_is_named_and_the_others_are_segmented(trained_crocnet, phantom_acdc, tmp_path):
    voxels, image = read_nifti(next(phantom_acdc.glob("testing/*/*_frame01.nii.gz")))
    (tmp_path / "in").mkdir()
    nib.save(nib.Nifti1Image(np.stack([voxels] * 3, -1), image.affine), tmp_path / "in" / "a_0000.nii.gz")
    nib.save(image, tmp_path / "in" / "b_0000.nii.gz")
    result = predict(tmp_path / "in", tmp_path / "out", Model(DATASET, TRAINER, PLANS, "2d"), device="cpu")
    assert result.segmented == ["b"] and "a_0000.nii.gz has 3 volumes" in result.problems[0]


def test_back_to_nnunet(exported, store, tmp_path):
    install(exported)
    results = tmp_path / "results"
    stages = to_nnunet(find_model("crocnet"), results)
    assert [s.configuration for s in stages] == ["2d", CONFIGURATION]
    for stage in stages:
        assert sorted(f.name for f in (results / DATASET / stage.name).glob("fold_*")) == ["fold_0", "fold_1"]
        kept = torch.load(results / DATASET / stage.name / "fold_1" / "checkpoint_final.pth", weights_only=True)
        own = torch.load(stage.fold_folder(1) / "checkpoint_final.pth", map_location="cpu", weights_only=False)
        assert kept["trainer_name"] == own["trainer_name"] == TRAINER
        assert all(torch.equal(kept["network_weights"][k], v) for k, v in own["network_weights"].items())
    second = results / DATASET / stages[1].name
    shutil.rmtree(second)  # as a kill between the stages leaves it
    assert to_nnunet(find_model("crocnet"), results) == stages and second.is_dir()
    (second / "model.json").unlink()
    with pytest.raises(UserError, match=f"{second.name} exists already"):
        to_nnunet(find_model("crocnet"), results)


def test_a_model_is_installed_once(exported, store):
    assert "crocnet" not in installed_folders()
    install(exported)
    with pytest.raises(UserError, match="installed already"):
        install(exported)
    install(exported, overwrite=True)
    assert installed_folders()["crocnet"] == store / "crocnet"
    assert sorted(p.name for p in store.iterdir()) == ["crocnet"], "nothing is left of an installation"


def test_what_is_not_installed_is_said(store):
    with pytest.raises(UserError, match="no model 'other'"):
        find_model("other")


class Evil:
    """What a pickle would run."""

    def __init__(self, place):
        self.place = place

    def __reduce__(self):
        return os.mkdir, (str(self.place),)


def refused(folder, because):
    """As one file, which says so and leaves nothing installed."""
    with zipfile.ZipFile(folder.with_name("hostile.zip"), "w") as archive:
        for file in folder.rglob("*"):
            archive.write(file, file.relative_to(folder))
    with pytest.raises(UserError, match=because) as error:
        install(folder.with_name("hostile.zip"))
    assert "\n" not in str(error.value) and str(error.value).count("hostile.zip") == 1
    assert not list(folder.with_name("models").glob("*"))


def test_damaged_files_are_refused(folder):
    weights = folder / "2d" / "fold_0.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    refused(folder, "fold_0.safetensors is damaged")
    weights.unlink()
    refused(folder, "fold_0.safetensors is missing")


def test_a_pickle_in_place_of_weights_is_not_run(folder, tmp_path):
    weights = folder / "2d" / "fold_0.safetensors"
    weights.write_bytes(pickle.dumps(Evil(tmp_path / "run")))
    described(folder)
    refused(folder, "holds no weights")
    assert not (tmp_path / "run").exists()


def test_a_huge_header_is_refused(folder):
    weights = folder / "2d" / "fold_0.safetensors"
    whole = weights.read_bytes()
    (n_bytes,) = struct.unpack("<Q", whole[:8])
    spaces = 1_000_001 - n_bytes  # which safetensors takes
    for content in (
        struct.pack("<Q", 1 << 40) + b"{}",
        struct.pack("<Q", n_bytes + spaces) + whole[8 : 8 + n_bytes] + b" " * spaces + whole[8 + n_bytes :],
    ):
        weights.write_bytes(content)
        described(folder)
        refused(folder, "holds no weights .*header of at most 1 MB")


def test_weights_of_another_network_are_refused(folder, tmp_path):
    save_file({"a": torch.zeros(3)}, folder / "2d" / "fold_0.safetensors")
    described(folder)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "case.nii.gz").touch()
    with pytest.raises(UserError, match="does not fit the network"):
        predict(tmp_path / "in", tmp_path / "out", SavedModel.load(folder), device="cpu")


@pytest.mark.parametrize(
    "change, because",
    [
        (lambda t: t.fill_(torch.nan), "has values that are NaN or infinite"),
        (lambda t: t.div_(0), "has values that are NaN or infinite"),
        (lambda t: t.double().fill_(1e300), "has values that are NaN or infinite"),
        (lambda t: t.int(), "is torch.int32"),
        (lambda t: t[:1], r" is \(1, .*\), not \("),
        (lambda t: t.to(torch.complex64), "is torch.complex64"),
    ],
)
def test_tensors_that_are_no_weights_are_refused(folder, change, because):
    file = folder / "2d" / "fold_1.safetensors"
    weights = load_file(file)
    name = max(weights, key=lambda name: weights[name].numel())
    save_file(weights | {name: change(weights[name].clone())}, file)
    described(folder)
    refused(folder, rf"2d/fold_1\.safetensors of crocnet does not fit the network .*{because}")


def test_plans_that_no_image_can_be_prepared_with_are_refused(folder):
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["2d"]["normalization_schemes"] = ["NobodysNormalization"]
    (folder / "plans.json").write_text(json.dumps(plans))
    described(folder)
    refused(folder, r"plans.json \(.*\) and dataset.json are not those of a model")


@pytest.mark.parametrize(
    "change, because",
    [
        (
            lambda p, c: c["architecture"]["arch_kwargs"]["nonlin_kwargs"].update(negative_slope="x"),
            "not those of a mod",
        ),
        (lambda p, c: c.update(patch_size=[82, 64]), r"does not take a patch of \[82, 64\]"),
        (lambda p, c: c.update(patch_size=[2048, 2048], batch_size=1), r"would take \d+ GB for a patch of"),
        (lambda p, c: c.update(patch_size=[20_000_000, 1], batch_size=1), "a patch of"),
        (lambda p, c: c["resampling_fn_data_kwargs"].update(num_threads=10**6), "num_threads of 1000000"),
        (lambda p, c: c["resampling_fn_seg_kwargs"].update(device="meta"), "device 'meta'"),
        (lambda p, c: p.update(image_reader_writer="List"), "no reader of images"),
        (lambda p, c: p.update(image_reader_writer="NaturalImage2DIO"), "NaturalImage2DIO reads no '.nii.gz'"),
        (lambda p, c: c.update(spacing=[1e-9, 1e-9]), "a spacing of"),
        (
            lambda p, c: (
                c.update(normalization_schemes=["CTNormalization"]),
                p["foreground_intensity_properties_per_channel"]["0"].update(mean=float("nan")),
            ),
            "NaN or infinite when it is prepared",
        ),
    ],
)
def test_plans_that_segment_nothing_are_refused(folder, change, because, monkeypatch):
    monkeypatch.setattr("nnunet_cardiac.models.saved_model.LARGEST_PASS", 200_000_000)
    plans = json.loads((folder / "plans.json").read_text())
    change(plans, plans["configurations"]["2d"])
    (folder / "plans.json").write_text(json.dumps(plans))
    described(folder)
    refused(folder, because)


@pytest.mark.parametrize("axes", [[0, 0], [2], [-1]])
def test_mirroring_is_along_axes_that_there_are_each_once(folder, axes):
    stages = json.loads((folder / "model.json").read_text())["stages"]
    described(folder, stages=[stage | {"mirroring_axes": axes} for stage in stages])
    refused(folder, "mirroring along")


def test_a_model_of_a_newer_version_says_so(folder):
    plans = json.loads((folder / "plans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["network_class_name"] = "nnunet_cardiac.networks.Newer"
    (folder / "plans.json").write_text(json.dumps(plans))
    for version in ("0.1.9", "not installed"):
        described(folder, versions={"nnunet-cardiac": version})
        refused(folder, "'nnunet_cardiac.networks.Newer', which is none of the networks")
    described(folder, versions={"nnunet-cardiac": "100.2"})
    refused(folder, "'nnunet_cardiac.networks.Newer'.*: it was made with nnunet-cardiac 100.2, update yours")
    described(folder, versions={"nnunet-cardiac": "100.2"}, clean_up="always")
    refused(folder, "clean_up is 'always'.*: it was made with nnunet-cardiac 100.2, update yours")


def test_a_damaged_model_does_not_end_the_list(exported, store, capsys):
    install(exported)
    description = json.loads((store / "crocnet" / DESCRIPTION).read_text())
    for changes in (
        {"training_images": {"slice_distance": [1, 10**400], "pixel": [1, 2], "n_slices": [1, 2]}},
        {"files": description["files"] | {"a" * 300: {"bytes": 1, "sha256": ""}}},
        {"files": description["files"] | {"\x1b[2J/../a": {"bytes": 1, "sha256": ""}}},
    ):
        (store / "crocnet" / DESCRIPTION).write_text(json.dumps(description | changes))
        with pytest.raises(SystemExit):
            main(["models", "list"])
        printed = capsys.readouterr().out
        assert printed.startswith("crocnet: ") and "\ncardiac: " in printed and "\x1b" not in printed


@pytest.mark.parametrize(
    "change, because",
    [
        (lambda a: a.update(network_class_name="os.system"), "names 'os.system'"),
        (lambda a: a["arch_kwargs"].update(conv_op="subprocess.Popen"), "names 'subprocess.Popen'"),
        (lambda a: a.update(network_class_name=["os"]), "none of the networks"),
        (lambda a: a.pop("arch_kwargs"), "are not those of a model"),
        # ways to others through what an allowed module has imported
        (lambda a: a["arch_kwargs"].update(nonlin="torch.nn.functional.torch.os.system"), "none of the networks"),
        (
            lambda a: a["arch_kwargs"].update(nonlin="torch.nn.modules.activation.torch.hub.load"),
            "none of the networks",
        ),
        (
            lambda a: a.update(network_class_name="dynamic_network_architectures.architectures.unet.torch.hub.load"),
            "none",
        ),
        (lambda a: a.update(network_class_name="nnunet_cardiac.networks.network.torch.nn.Module"), "none of the"),
        (lambda a: a.update(network_class_name="nnunet_cardiac.networks.Nothing"), "none of the networks"),
        (lambda a: a["arch_kwargs"].update(conv_op="nnunet_cardiac.networks.DADU"), "none of the networks"),
    ],
)
def test_classes_of_others_are_not_built(folder, change, because):
    plans = json.loads((folder / "plans.json").read_text())
    change(plans["configurations"]["2d"]["architecture"])
    (folder / "plans.json").write_text(json.dumps(plans))
    described(folder)
    refused(folder, because)


@pytest.mark.parametrize(
    "changes, because",
    [
        ({"format": 2}, "has format 2"),
        ({"stages": "all"}, "does not describe a model"),
        ({"clean_up": "false"}, "does not describe a model"),
        ({"summary": "two\nlines"}, "does not describe a model"),
        ({"licence": "\x1b[2J"}, "does not describe a model"),
        ({"training_images": {"slice_distance": [], "pixel": [1, 2], "n_slices": [1, 2]}}, "does not describe"),
        ({"training_images": {"slice_distance": [1, 2], "pixel": [1, 2], "n_slices": [1, float("inf")]}}, "describe"),
        ({"training_images": {"slice_distance": [1, 2], "pixel": [1, float("nan")], "n_slices": [1, 2]}}, "describe"),
        ({"stages": []}, "names no weights"),
        ({"files": {}}, "does not list plans.json"),
        ({"versions": None}, "does not describe a model"),
    ],
)
def test_a_wrong_description_is_refused(folder, changes, because):
    described(folder, **changes)
    refused(folder, because)


@pytest.mark.parametrize(
    "changes, because",
    [
        ({"mirroring_axes": [9]}, "mirroring along"),
        ({"mirroring_axes": [0] * 40}, "mirroring along"),
        ({"mirroring_axes": [float("inf")]}, "does not describe a model"),
        ({"trainer": "../../UP"}, "does not describe a model"),
        ({"configuration": "2d"}, "its stages are not those that lead to"),
        ({"weights": ["plans.json"]}, "does not describe a model"),
    ],
)
def test_wrong_stages_are_refused(folder, changes, because):
    stages = json.loads((folder / DESCRIPTION).read_text())["stages"]
    described(folder, stages=[stages[0], stages[1] | changes])
    refused(folder, because)


def test_a_second_stage_does_not_come_alone(folder):
    description = json.loads((folder / DESCRIPTION).read_text())
    shutil.rmtree(folder / "2d")
    files = {path: entry for path, entry in description["files"].items() if not path.startswith("2d/")}
    described(folder, stages=description["stages"][1:], files=files)
    refused(folder, "its stages are not those")


@pytest.mark.parametrize(
    "name, change",
    [
        ("plans.json", lambda p: p.update(dataset_name="/tmp/elsewhere")),
        ("plans.json", lambda p: p.update(plans_name="../up")),
        ("plans.json", lambda p: p.update(transpose_forward=[0, 0, 1])),
        ("plans.json", lambda p: p.update(image_reader_writer="Nobody")),
        ("plans.json", lambda p: p["configurations"]["2d"].update(preprocessor_name="Nobody")),
        ("plans.json", lambda p: p["configurations"]["2d"].update(inherits_from="2d")),
        ("plans.json", lambda p: p["configurations"]["2d"].update(previous_stage=CONFIGURATION)),
        ("plans.json", lambda p: p["configurations"]["2d"].pop("patch_size")),
        ("dataset.json", lambda d: d.pop("labels")),
        ("dataset.json", lambda d: d.update(labels="all")),
        ("dataset.json", lambda d: d.pop("channel_names")),
        ("dataset.json", lambda d: d.update(file_ending=5)),
    ],
)
def test_plans_and_data_sets_that_are_none_are_refused_before_anything_is_built(folder, name, change):
    content = json.loads((folder / name).read_text())
    change(content)
    (folder / name).write_text(json.dumps(content))
    described(folder)
    with pytest.raises(UserError) as error:
        SavedModel.load(folder)
    assert "\n" not in str(error.value)


def test_a_linked_folder_is_refused(folder, tmp_path):
    (folder / "2d").rename(tmp_path / "elsewhere")
    (folder / "2d").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="2d is a link"):
        SavedModel.load(folder)


def test_a_card_cannot_command_a_terminal(folder):
    (folder / "card.md").write_text("# A card\n\x1b[2J\tend")
    described(folder)
    assert SavedModel.load(folder).card == "# A card\n [2J\tend"


def test_a_file_that_nobody_listed_is_refused(folder):
    (folder / "more.txt").touch()
    refused(folder, "more.txt is no part of the model")


@pytest.mark.parametrize(
    "name, because",
    [
        ("checkpoint_final.pth", "checkpoint_final.pth is neither a text of at most 5 MB nor weights"),
        ("LICENCE", "LICENCE is neither a text of at most 5 MB nor weights"),
        ("2d/fold_7.safetensors", "names no weights, or others than are there"),
    ],
)
def test_what_is_neither_text_nor_weights_is_refused(folder, name, because):
    (folder / name).write_bytes(pickle.dumps(torch.zeros(2)))
    description = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(description | {"files": description["files"] | {name: {}}}))
    described(folder)
    refused(folder, because)


def zipped(place, **members):
    with zipfile.ZipFile(place / "hostile.zip", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return place / "hostile.zip"


@pytest.mark.parametrize("name", ["../outside", "{}/outside", "a/../../outside", "..\\outside", "C:outside"])
def test_no_path_leads_out_of_the_folder(tmp_path, store, name):
    with pytest.raises(UserError, match=r"leads out of its folder: it is not used\.$"):
        install(zipped(tmp_path, **{name.format(tmp_path): "text"}))
    assert list(store.glob("*")) == [] and not list(tmp_path.rglob("*outside*"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("second", ["plans.json", "Plans.json"])
def test_two_files_of_one_name_are_refused(tmp_path, store, second):
    with zipfile.ZipFile(tmp_path / "model.zip", "w") as archive:
        archive.writestr("plans.json", "{}")
        archive.writestr(second, "{}")
    with pytest.raises(UserError, match=r"holds two files of one name: it is not installed\.$"):
        install(tmp_path / "model.zip")


def test_links_are_refused(tmp_path, store):
    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        link = zipfile.ZipInfo("plans.json")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(UserError, match=r"^\S+hostile\.zip holds a link, plans\.json: it is not installed\.$"):
        install(tmp_path / "hostile.zip")


def test_what_is_no_zip_file_or_cut_off_is_refused(exported, tmp_path, store):
    for content in (
        b"",
        b"no zip",
        exported.read_bytes()[:-100],
        exported.read_bytes()[: len(exported.read_bytes()) // 2],
    ):
        (tmp_path / "cut.zip").write_bytes(content)
        with pytest.raises(UserError, match=r"cut\.zip is no model's file"):
            install(tmp_path / "cut.zip")
    for there in ("missing.zip", ""):
        with pytest.raises(UserError, match="There is no file"):
            install(tmp_path / there)


def test_damage_in_the_middle_is_refused(exported, tmp_path, store):
    content = bytearray(exported.read_bytes())
    random = np.random.default_rng(0)
    for _ in range(10):
        damaged, start = bytearray(content), int(random.integers(len(content) - 40))
        damaged[start : start + 40] = random.bytes(40)
        (tmp_path / "damaged.zip").write_bytes(damaged)
        with pytest.raises(UserError, match=r"damaged\.zip"):
            install(tmp_path / "damaged.zip")
    assert list(store.glob("*")) == []


def test_too_much_is_refused(tmp_path, store, monkeypatch):
    monkeypatch.setattr("nnunet_cardiac.models.store.LARGEST_MODEL", 1000)
    with pytest.raises(UserError, match="unpacks to more than a model has"):
        install(zipped(tmp_path, **{"plans.json": "0" * 2000}))


def test_a_bomb_is_not_unpacked(tmp_path, store):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("2d/fold_0.safetensors", bytes(30_000_000))
    with pytest.raises(UserError, match=r"^\S+bomb\.zip unpacks to more than a model has .* it is not installed\.$"):
        install(tmp_path / "bomb.zip")
    assert not store.exists()


@pytest.mark.parametrize("name", ["", "../up", ".hidden", "a b", "a/b", "-x", "a.", "h\u00e9art", "a" * 101, "a\n"])
def test_a_name_is_a_name(folder, tmp_path, name):
    described(folder, name=name)
    refused(folder, "does not describe a model")
    with pytest.raises(UserError, match="is no name for a model"):
        export(CROCNET, tmp_path / "x.zip", name)


def test_the_name_of_the_model_in_the_box_is_taken(exported, store, tmp_path, monkeypatch):
    monkeypatch.setattr("nnunet_cardiac.models.store.BOX", tmp_path)
    (tmp_path / "crocnet").mkdir()
    with pytest.raises(UserError, match="as the model that comes with the package"):
        install(exported, overwrite=True)


def test_files_that_are_there_are_not_replaced(exported, tmp_path):
    before = exported.read_bytes()
    with pytest.raises(UserError, match="use --overwrite"):
        export(CROCNET, exported, "other")
    with pytest.raises(UserError, match="does not exist"):
        export(CROCNET, tmp_path / "nowhere" / "x.zip", "x")
    with pytest.raises(UserError, match="The licence is 'CC.*: give it in one line"):
        export(CROCNET, tmp_path / "x.zip", "x", licence="CC\nBY")
    assert exported.read_bytes() == before


def test_a_trainer_with_a_network_of_its_own_is_refused(trained_crocnet, tmp_path, monkeypatch):
    """At the export, and not where somebody else wants to use it."""
    real = torch.load

    def other(*arguments, **keywords):
        checkpoint = real(*arguments, **keywords)
        checkpoint["network_weights"] = {f"other.{key}": v for key, v in checkpoint["network_weights"].items()}
        return checkpoint

    monkeypatch.setattr(torch, "load", other)
    with pytest.raises(UserError, match=f"{TRAINER} trains another network"):
        export(CROCNET, tmp_path / "x.zip", "x")
    assert not (tmp_path / "x.zip").exists()


def test_what_is_not_trained_cannot_be_exported(results_folder, tmp_path):
    with pytest.raises(UserError, match="no trained model"):
        export(Model(DATASET, TRAINER, "nnUNetOtherPlans", "2d"), tmp_path / "x.zip", "x")


def test_a_fold_that_is_not_trained_is_named(trained_crocnet, tmp_path):
    with pytest.raises(UserError, match="for fold 7"):
        export(CROCNET, tmp_path / "x.zip", "x", folds=[7])


def test_the_commands(trained_crocnet, store, phantom_acdc, tmp_path, monkeypatch, capsys):
    def run(*arguments):
        main([str(a) for a in arguments])
        return capsys.readouterr().out

    assert "cardiac: " in run("models", "list"), "the model that comes with the package"
    card = tmp_path / "card.md"
    card.write_text("# Hearts of phantoms")
    which = ("-d", "27", "-tr", TRAINER, "-p", PLANS, "-c", "2d")
    more = ("--name", "stage_1", "--card", card, "--summary", "Stage 1.", "--licence", "CC0", "-f", "0")
    assert "stage_1, 1 network, " in run("models", "export", *which, *more, "-o", tmp_path / "model.zip")
    assert "stage_1 is installed" in run("models", "install", tmp_path / "model.zip")
    assert "stage_1: Stage 1." in run("models", "list")
    assert run("models") == run("models", "list")
    assert "Hearts of phantoms" in run("models", "show", "stage_1")
    image = tmp_path / "heart.nii.gz"
    shutil.copy(next(phantom_acdc.glob("testing/*/*_frame01.nii.gz")), image)
    run("predict", "-i", image, "-o", tmp_path / "out", "-m", "stage_1", "-device", "cpu")
    assert (tmp_path / "out" / "heart.nii.gz").is_file()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    written = run("models", "to_nnunet", "stage_1")
    assert f"{TRAINER}__{PLANS}__2d" in written and "nnunet_cardiac env" in written, "it is a trainer of ours"
    (store / "stage_1" / "card.md").write_text("changed")
    with pytest.raises(SystemExit):
        run("models", "list")
    assert "card.md is damaged" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, because",
    [
        (("predict", "-i", "a", "-o", "b", "-d", "27"), "-d needs a configuration"),
        (("predict", "-i", "a", "-o", "b", "-m", "x", "-f", "0"), "-f is for a model that was trained here"),
        (("predict", "-i", "a", "-o", "b", "-tr", "x"), "-tr is for a model that was trained here"),
        (("predict", "-i", "a", "-o", "b", "-chk", "x"), "-chk is for a model that was trained here"),
        (("predict", "-i", "a", "-o", "b", "-m", "x", "-d", "27", "-c", "2d"), "-m and -d name two models"),
        (("models", "show", "nobody"), "There is no model 'nobody'"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(store, arguments, because):
    with pytest.raises(SystemExit, match=because):
        main(list(arguments))
