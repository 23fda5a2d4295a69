"""Prediction in one call against nnU-Net's own commands, and what can be wrong with its input."""

import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import CASCADE, DADU, DATASET, HALSR, NNUNET, predict_with_nnunet, run_nnunet

from nnunet_cardiac.cli import main
from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference.predict import OF_OTHERS, RECORD, find_cases, predict
from nnunet_cardiac.model import Model

STAGE_1 = tuple("2d" if argument == "2d_cascade" else argument for argument in CASCADE)


@pytest.fixture
def images(dataset, tmp_path):
    return shutil.copytree(dataset / "imagesTs", tmp_path / "images")


def read(path):
    return np.asanyarray(nib.load(path).dataobj)


def run(*arguments):
    main(["predict", *map(str, arguments), "-device", "cpu"])


def error_of(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_status:
        run(*arguments)
    assert exit_status.value.code not in (0, None)
    return str(exit_status.value.code) + capsys.readouterr().err


def assert_agree(ours, theirs):
    labels = set()
    for file in sorted(theirs.glob("*.nii.gz")):
        one, two = read(ours / file.name), read(file)
        assert (one == two).mean() >= 0.999
        assert np.allclose(nib.load(ours / file.name).affine, nib.load(file).affine)
        labels |= set(np.unique(two))
    assert len(labels) > 1, "an empty segmentation proves nothing"


def test_agrees_with_two_calls_of_nnunetv2_predict(trained_crocnet, images, tmp_path):
    run("-i", images, "-o", tmp_path / "ours", *CASCADE)
    run("-i", images, "-o", tmp_path / "ours_stage_1", *STAGE_1)
    folds = ("-f", "0", "1")
    predict_with_nnunet(images, tmp_path / "stage_1", STAGE_1, *folds)
    predict_with_nnunet(images, tmp_path / "both", CASCADE, *folds, "-prev_stage_predictions", tmp_path / "stage_1")
    assert_agree(tmp_path / "ours", tmp_path / "both")
    assert_agree(tmp_path / "ours_stage_1", tmp_path / "stage_1")


def test_the_box_and_its_inside_agree_with_two_calls_of_nnunetv2_predict(trained_halsr_net, images, tmp_path):
    box = tuple("2d_roi" if argument == "2d_cascade" else argument for argument in HALSR)
    folds = ("-f", "0", "1")
    run("-i", images, "-o", tmp_path / "ours", *HALSR)
    predict_with_nnunet(images, tmp_path / "boxes", box, *folds)
    predict_with_nnunet(images, tmp_path / "both", HALSR, *folds, "-prev_stage_predictions", tmp_path / "boxes")
    assert_agree(tmp_path / "ours", tmp_path / "both")


def test_dadu_agrees_with_nnunetv2_predict(trained_dadu, images, tmp_path):
    run("-i", images, "-o", tmp_path / "ours", *DADU, "-f", "0")
    predict_with_nnunet(images, tmp_path / "nnunet", DADU, "-f", "0")
    assert_agree(tmp_path / "ours", tmp_path / "nnunet")


def test_output_of_a_prediction(trained_crocnet, images, tmp_path):
    output = tmp_path / "out"
    run("-i", images, "-o", output, *STAGE_1, "-f", "0", "--save_probabilities", "--disable_tta")
    names = {p.name for p in output.iterdir()}
    cases = {"patient101_ED", "patient101_ES"}
    assert names == {"dataset.json", "plans.json", RECORD} | {
        f"{c}{e}" for c in cases for e in (".nii.gz", ".npz", ".pkl")
    }
    probabilities = np.load(output / "patient101_ED.npz")["probabilities"]
    segmentation = read(output / "patient101_ED.nii.gz").transpose(2, 1, 0)
    assert np.array_equal(probabilities.argmax(0), segmentation)


def test_images_without_channel_number_beside_their_segmentations(trained_crocnet, images, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("somebody", "somebody_gt"):
        shutil.copy(images / "patient101_ED_0000.nii.gz", tmp_path / "in" / f"{name}.nii.gz")
    run("-i", tmp_path / "in", "-o", tmp_path / "out", *CASCADE, "-f", "0", "--disable_tta")
    assert [p.name for p in (tmp_path / "out").glob("*.nii.gz")] == ["somebody.nii.gz"]
    assert "segmentations lie among the images (somebody_gt.nii.gz) and are left out" in capsys.readouterr().err


def test_a_single_image_without_channel_number(trained_crocnet, images, tmp_path):
    image = tmp_path / "somebody.nii.gz"
    shutil.copy(images / "patient101_ED_0000.nii.gz", image)
    run("-i", image, "-o", tmp_path / "out", *CASCADE, "-f", "0", "--disable_tta")
    assert (tmp_path / "out" / "somebody.nii.gz").is_file()


def test_output_that_exists(trained_crocnet, images, tmp_path, capsys):
    output = tmp_path / "out"
    output.mkdir()
    (output / "patient101_ED.nii.gz").write_bytes(b"precious")
    arguments = ("-i", images, "-o", output, *STAGE_1, "-f", "0", "--disable_tta")
    message = error_of(capsys, *arguments)
    assert "1 of 2 segmentations are already in" in message and "--continue_prediction" in message
    assert (output / "patient101_ED.nii.gz").read_bytes() == b"precious"
    run(*arguments, "--continue_prediction")
    assert "nothing tells which model made the segmentations" in capsys.readouterr().err
    assert (output / "patient101_ED.nii.gz").read_bytes() == b"precious"
    assert (output / "patient101_ES.nii.gz").is_file()
    run(*arguments, "--overwrite")
    assert (output / "patient101_ED.nii.gz").read_bytes() != b"precious"


def test_images_are_not_replaced(images, tmp_path, capsys):
    """With the model in the package, which need not be loaded for that."""
    heart, link = images / "heart.nii.gz", tmp_path / "links" / "heart.nii.gz"
    heart.write_bytes(b"precious")
    link.parent.mkdir()
    link.symlink_to(heart)
    for way in ("--overwrite", "--continue_prediction"):
        for image, because in (
            (heart, f"{images} is the folder of the images"),
            (images / "patient101_ED_0000.nii.gz", f"{images} is the folder of the images"),
            (link, f"{heart} is an image that is to be segmented"),
        ):  # fmt: skip
            assert because in error_of(capsys, "-i", image, "-o", images, way)
    assert heart.read_bytes() == b"precious" and RECORD not in {file.name for file in images.iterdir()}


def test_segmentations_of_two_models_are_not_mixed(trained_nnunet, images, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ("-i", images, "-o", output, *NNUNET, "-f", "0")
    run(*arguments, "--disable_tta")
    first = output / "patient101_ED.nii.gz"
    first.unlink()
    for other, what in (
        ((), "mirroring"),
        (("--disable_tta", "--clean_up"), "clean_up"),
        (("--disable_tta", "--bfloat16"), "bfloat16"),
    ):
        assert f"or with other options ({what}): choose" in error_of(
            capsys, *arguments, "--continue_prediction", *other
        )
    file = trained_nnunet / "nnUNetTrainer__nnUNetPlans__2d" / "fold_0" / "checkpoint_final.pth"
    before = file.read_bytes()
    torch.save(torch.load(file, weights_only=False) | {"more": 1}, file)
    message = error_of(capsys, *arguments, "--disable_tta", "--continue_prediction")
    file.write_bytes(before)
    assert f"{output} holds segmentations of another model or with other options (weights): choose" in message
    assert not first.exists()
    run(*arguments, "--disable_tta", "--continue_prediction", "--save_probabilities")  # of both
    assert "2 cases segmented, 0 kept" in capsys.readouterr().out and first.exists()
    first.unlink()
    run(*arguments, "--disable_tta", "--continue_prediction", "--save_probabilities")
    assert "1 case segmented, 1 kept" in capsys.readouterr().out
    run(*arguments, "--overwrite")
    assert json.loads((output / RECORD).read_text())["mirroring"] is True


def test_what_another_model_made_is_told_until_it_is_replaced(trained_nnunet, images, tmp_path, capsys):
    output, one = tmp_path / "out", images / "patient101_ED_0000.nii.gz"
    options = ("-o", output, *NNUNET, "-f", "0", "--disable_tta")
    run("-i", images, *options)
    (output / "folder.nii.gz").mkdir()
    run("-i", one, *options, "-step_size", "0.6", "--overwrite")
    assert f"{output}: patient101_ES.nii.gz may be of another model, or with other options" in capsys.readouterr().err
    assert json.loads((output / RECORD).read_text())[OF_OTHERS] == ["patient101_ES.nii.gz"]
    run("-i", images, *options, "-step_size", "0.6", "--continue_prediction")
    said = capsys.readouterr()
    assert "1 case segmented, 1 kept" in said.out and "another model" not in said.err
    assert json.loads((output / RECORD).read_text())[OF_OTHERS] == []


def test_who_continues_hears_what_was_unusual_before(trained_nnunet, images, tmp_path, capsys):
    file = images / "patient101_ED_0000.nii.gz"
    image = nib.load(file)
    nib.save(nib.Nifti1Image(image.get_fdata() - 1000, image.affine), file)
    options = ("-i", images, "-o", tmp_path / "out", *NNUNET, "-f", "0", "--disable_tta")
    run(*options)
    warned = [line for line in capsys.readouterr().err.splitlines() if "patient101_ED: values down to" in line]
    (tmp_path / "out" / "patient101_ES.nii.gz").unlink()
    run(*options, "--continue_prediction")
    said = capsys.readouterr()
    assert "1 kept" in said.out and len(warned) == 1 and warned[0] in said.err.splitlines()
    # of cases that a call does not ask for, the record keeps them
    other = images / "patient101_ES_0000.nii.gz"
    run("-i", other, *options[2:], "--overwrite")
    assert warned[0] not in capsys.readouterr().err
    run(*options, "--continue_prediction")
    assert warned[0] in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("name", ["dataset.json", "plans.json"])
def test_the_files_of_a_data_set_are_not_replaced(trained_nnunet, images, tmp_path, capsys, name):
    (tmp_path / name).write_text('{"labels": {"background": 0}}')
    for way in ([], ["--overwrite"]):
        message = error_of(capsys, "-i", images, "-o", tmp_path, *NNUNET, "-f", "0", *way)
        assert f"{tmp_path / name} is there already and not this model's" in message
    assert (tmp_path / name).read_text() == '{"labels": {"background": 0}}' and not list(tmp_path.glob("*.nii.gz"))


def test_faulty_images_are_named_and_the_others_segmented(trained_crocnet, images, tmp_path, capsys):
    good = images / "patient101_ED_0000.nii.gz"
    voxels = read(good).astype(np.float32)
    voxels[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(voxels, nib.load(good).affine), images / "nan_0000.nii.gz")
    (images / "truncated_0000.nii.gz").write_bytes(good.read_bytes()[:300])
    shutil.copy(good, images / "second_0001.nii.gz")
    (images / "link_0000.nii.gz").symlink_to(tmp_path / "nowhere.nii.gz")
    (images / "other_0000.nrrd").touch()
    (images / "LOUD_0000.NII.GZ").touch()
    (tmp_path / "out" / "folder.nii.gz").mkdir(parents=True)
    shutil.copy(good, images / "folder_0000.nii.gz")
    shutil.copy(good, images / "a\nleft out: b_0001.nii.gz")
    shutil.copy(good, images / "two_0000.nii.gz")
    shutil.copy(good, images / "two_0001.nii.gz")
    message = error_of(
        capsys, "-i", images, "-o", tmp_path / "out", *STAGE_1, "-f", "0", "--disable_tta", "--overwrite"
    )
    assert "LOUD_0000.NII.GZ does not end in .nii.gz" in message
    assert f"{tmp_path / 'out' / 'folder.nii.gz'} is a folder: move it away" in message
    assert "nan_0000.nii.gz has 1 voxels that are NaN" in message
    assert "truncated_0000.nii.gz cannot be read" in message
    assert "two has 2 images" in message and "the model wants 1: cineMRI" in message
    assert "second_0001.nii.gz is not channel 0 of second, which is second_0000: rename it" in message
    assert "link_0000.nii.gz is a link to a file that is not there" in message
    assert "other_0000.nrrd does not end in .nii.gz, as the model's images do" in message
    assert "\n  left out: b_0001" in message and len(re.findall("^left out: ", message, re.MULTILINE)) == 9
    assert {p.name for p in (tmp_path / "out").glob("*.nii.gz") if p.is_file()} == {
        "patient101_ED.nii.gz", "patient101_ES.nii.gz",
    }  # fmt: skip


def test_models_that_are_not_there(trained_crocnet, images, tmp_path, capsys):
    options = ("-i", images, "-o", tmp_path / "out")
    for arguments, expected in (
        (("-d", "99", *CASCADE[2:]), "no data set 99"),
        ((*CASCADE[:2], "-tr", "nnUNetTrainerDADU", *CASCADE[4:]), "no trained model"),
        ((*CASCADE[:-1], "3d_lowres"), "no trained model"),
        ((*CASCADE, "-f", "4"), "no checkpoint_final.pth for fold 4"),
        ((*CASCADE, "-chk", "checkpoint_other.pth"), "no fold with a checkpoint_other.pth"),
    ):
        assert expected in error_of(capsys, *options, *arguments)
    assert not (tmp_path / "out").exists()


def test_a_model_whose_trainer_is_not_installed(trained_nnunet, images, tmp_path, capsys):
    model = trained_nnunet / "nnUNetTrainerOfSomebody__nnUNetPlans__2d"
    shutil.copytree(trained_nnunet / "nnUNetTrainer__nnUNetPlans__2d", model)
    message = error_of(
        capsys, "-i", images, "-o", tmp_path / "out", "-d", "27", "-tr", "nnUNetTrainerOfSomebody", "-c", "2d"
    )
    shutil.rmtree(model)
    assert "There is no trainer 'nnUNetTrainerOfSomebody'" in message and "nnUNet_extTrainer" in message


def test_find_cases(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        find_cases(tmp_path / "nowhere", ".nii.gz")
    with pytest.raises(UserError, match=r"no image that ends in \.nii\.gz"):
        find_cases(tmp_path, ".nii.gz")
    with pytest.raises(UserError, match=r"ends in  \[2J, as"):  # of a hostile dataset.json
        find_cases(tmp_path, "\x1b[2J")
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    assert {case: len(files) for case, files in find_cases(tmp_path, ".nii.gz").items()} == {"a": 2, "b": 1}
    (tmp_path / "c.nii.gz").touch()
    with pytest.raises(UserError, match="c.nii.gz among them"):
        find_cases(tmp_path, ".nii.gz")
    with pytest.raises(
        UserError, match=r"notes.txt does not end in \.nii\.gz, .* in DICOM there is nnunet_cardiac cine"
    ):
        find_cases(tmp_path / "notes.txt", ".nii.gz")


def test_acdcs_segmentations_beside_its_images_are_no_images(tmp_path):
    for name in ("a_frame01.nii.gz", "a_frame01_gt.nii.gz", "of_another_gt.nii.gz"):
        (tmp_path / name).touch()
    assert list(find_cases(tmp_path, ".nii.gz")) == ["a_frame01", "of_another_gt"]


def test_exported_model_predicts_the_same(trained_crocnet, images, tmp_path, monkeypatch):
    """nnU-Net's export to a zip file and installation from it, on our plans."""
    archive = tmp_path / "model.zip"
    names = ("-d", "27", "-f", "0", "1", "-c", "2d", "2d_cascade", "-tr", CASCADE[3], "-p", CASCADE[5])
    run_nnunet("nnUNetv2_export_model_to_zip", *names, "-o", archive, "--not_strict")
    run("-i", images, "-o", tmp_path / "here", *CASCADE, "--disable_tta")
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    run_nnunet("nnUNetv2_install_pretrained_model_from_zip", archive)
    run("-i", images, "-o", tmp_path / "there", *CASCADE, "--disable_tta")
    files = sorted((tmp_path / "here").glob("*.nii.gz"))
    assert len(files) == 2
    for file in files:
        assert np.array_equal(read(file), read(tmp_path / "there" / file.name))


def test_the_best_of_our_configurations_is_found(trained_crocnet):
    names = ("-p", CASCADE[5], "-tr", CASCADE[3], "-c", "2d", "2d_cascade", "-f", "0", "1", "-np", "1")
    run_nnunet("nnUNetv2_find_best_configuration", "27", *names)
    information = json.loads((trained_crocnet / "inference_information.json").read_text())
    assert [model["configuration"] for model in information["considered_models"]] == ["2d", "2d_cascade"]
    assert 0 < len(information["best_model_or_ensemble"]["selected_model_or_models"]) <= 2


def test_odd_images_are_named_and_the_others_segmented(trained_nnunet, images, tmp_path):
    """One column, four dimensions, a spacing of metres: none of them takes the others with it."""
    voxels = np.ones((20, 18, 4), np.int16)
    (tmp_path / "odd").mkdir()
    for name, shape, spacing in (
        ("column", (1, 18, 4), 4), ("thin", (1, 18, 4), 0.01), ("cine", (20, 18, 4, 3), 4), ("large", (20, 18, 4), 1e4),
        ("good", (20, 18, 4), 4),
    ):  # fmt: skip
        image = nib.Nifti1Image(np.resize(voxels, shape), np.diag([spacing, spacing, 10, 1]))
        nib.save(image, tmp_path / "odd" / f"{name}_0000.nii.gz")
    result = predict(tmp_path / "odd", tmp_path / "out", Model(DATASET, *NNUNET[3::2]), device="cpu")
    assert result.segmented == ["column", "good"]
    cine, large, thin = result.problems
    assert "cine_0000.nii.gz has 3 volumes" in cine
    assert "large_0000.nii.gz has a spacing of" in large and "thin_0000.nii.gz has a spacing of" in thin
