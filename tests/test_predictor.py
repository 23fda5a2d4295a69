"""Batches of tiles and mirrored copies against nnU-Net's one by one; reading, computing and writing side by side."""

import os
import shutil
import threading
import weakref

import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import CASCADE, DATASET
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.inference import predict as inference
from nnunet_cardiac.inference.predictor import BatchedPredictor
from nnunet_cardiac.model import Model

TILES = (3, 90, 80)
"""Slices and size of an image that takes several tiles each."""


def predictor(kind, folder, folds, **kwargs):
    made = kind(device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False, **kwargs)
    made.initialize_from_trained_model_folder(str(folder), folds)
    return made


@pytest.fixture
def stage(trained_crocnet):
    """Folder and an input of CroCNet's stages; the second sees a heart in some slices only."""

    def stage(configuration):
        folder = Model(DATASET, CASCADE[3], CASCADE[5], configuration).folder
        data = torch.randn(1 if configuration == "2d" else 4, *TILES)
        data[1:] = 0
        data[1:2, 1:, 40:52, 30:38] = 1
        data[1:2, 2, 20:70, 30:38] = 1  # a heart that is larger than the planned crop
        return folder, data

    return stage


@pytest.mark.parametrize("configuration", ["2d", pytest.param("2d_cascade", marks=pytest.mark.slow)])
def test_the_same_logits_whatever_the_batch(stage, configuration):
    folder, data = stage(configuration)
    stock = predictor(nnUNetPredictor, folder, (0, 1)).predict_logits_from_preprocessed_data(data.clone())
    for memory, times in ((1, 1), (3e6, 2)):  # the first time learns what a copy takes
        batched = predictor(BatchedPredictor, folder, (0, 1), memory=memory)
        for _ in range(times):
            ours = batched.predict_logits_from_preprocessed_data(data.clone())
            torch.testing.assert_close(ours, stock, rtol=1e-2, atol=1e-2)  # sums in half precision
            assert (ours.argmax(0) == stock.argmax(0)).float().mean() > 0.999


def test_without_mirroring_and_with_every_fold_loaded_once(stage, monkeypatch):
    folder, data = stage("2d")
    stock = predictor(nnUNetPredictor, folder, (1,), use_mirroring=False)
    batched = predictor(BatchedPredictor, folder, (1,), use_mirroring=False)
    expected = stock.predict_logits_from_preprocessed_data(data.clone())
    monkeypatch.setattr(torch.nn.Module, "load_state_dict", None)  # loading again would fail
    torch.testing.assert_close(batched.predict_logits_from_preprocessed_data(data), expected, rtol=1e-2, atol=1e-2)


def test_in_bfloat16_the_network_computes_and_its_copies_are_added_up_as_ever(stage):
    folder, data = stage("2d")
    exact = predictor(BatchedPredictor, folder, (0,)).predict_logits_from_preprocessed_data(data)
    half, inside, outside = predictor(BatchedPredictor, folder, (0,), bfloat16=True), set(), set()
    for module in half.networks[0].modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _, x, y: inside.add(y.dtype))
    forward = half._forward
    half._forward = lambda x: outside.add((y := forward(x)).dtype) or y
    for _ in range(2):  # the first learns what a copy takes
        logits = half.predict_logits_from_preprocessed_data(data)
        assert not torch.equal(logits, exact)
        torch.testing.assert_close(logits, exact, rtol=0.05, atol=0.05)
    assert inside == {torch.bfloat16} and outside == {torch.float32}


def test_bfloat16_is_for_a_cpu():
    with pytest.raises(UserError, match="--bfloat16 is for -device cpu"):
        inference.load_stages(Model("", "", "", ""), None, "", torch.device("cuda"), True, 0.5, bfloat16=True)


def sizes_of_batches(batched, data):
    sizes, network = [], batched.networks[0]
    with pytest.MonkeyPatch.context() as context:
        forward = network.forward
        context.setattr(network, "forward", lambda x: sizes.append(len(x)) or forward(x))
        batched.predict_logits_from_preprocessed_data(data)
    return sizes


def test_a_look_without_mirrored_copies(stage):
    folder, data = stage("2d")
    batched = predictor(BatchedPredictor, folder, (0,), memory=1e9)
    all_copies = sum(sizes_of_batches(batched, data))
    with batched.unmirrored():
        assert sum(sizes_of_batches(batched, data)) == all_copies / 4
    assert sum(sizes_of_batches(batched, data)) == all_copies


def test_batches_keep_within_the_memory(stage):
    folder, data = stage("2d")
    batched = predictor(BatchedPredictor, folder, (0,), memory=1e9)
    first = sizes_of_batches(batched, data)
    (of_a_copy,) = batched._bytes_of_a_copy.values()
    n_copies = sum(first)
    assert first[0] == 1 and len(first) == 2  # one to see what it takes, then all that remain
    batched.memory = 5.5 * of_a_copy
    assert sizes_of_batches(batched, data) == [5] * (n_copies // 5) + [n_copies % 5] * (n_copies % 5 > 0)
    one = torch.randn(1, 1, *batched.configuration_manager.patch_size)
    assert of_a_copy > 4 * one.numel() * 8  # not less than its largest map and the logits


def test_a_gpu_that_runs_full_gets_smaller_batches(stage):
    folder, data = stage("2d")
    batched = predictor(BatchedPredictor, folder, (0,), memory=1e9)
    expected, network, sizes = batched.predict_logits_from_preprocessed_data(data), batched.networks[0], []
    forward = network.forward

    def full(x):
        if len(x) > 3:
            raise torch.OutOfMemoryError("full")
        sizes.append(len(x))
        return forward(x)

    network.forward = full
    torch.testing.assert_close(batched.predict_logits_from_preprocessed_data(data), expected, rtol=1e-2, atol=1e-2)
    assert max(sizes) in (2, 3)
    network.forward = lambda x: full(torch.cat([x] * 4))
    with pytest.raises(torch.OutOfMemoryError):
        batched.predict_logits_from_preprocessed_data(data)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_network_that_has_diverged_is_told(stage, value):
    folder, data = stage("2d")
    batched = predictor(BatchedPredictor, folder, (0,), use_mirroring=False)
    forward = batched.networks[0].forward
    batched.networks[0].forward = lambda x: forward(x).index_fill(-1, torch.tensor([7]), value)
    with pytest.raises(UserError, match="gives logits that are NaN or infinite: its training has diverged"):
        batched.predict_logits_from_preprocessed_data(data)


def predict(images, output, **kwargs):
    _, dataset, _, trainer, _, plans, _, configuration = CASCADE
    model = Model(DATASET, trainer, plans, configuration)
    return inference.predict(images, output, model, [0], device="cpu", use_mirroring=False, **kwargs)


def test_reading_and_writing_go_on_beside_the_network_and_logits_of_one_case_are_there(
    trained_crocnet, dataset, tmp_path, monkeypatch
):
    images = shutil.copytree(dataset / "imagesTr", tmp_path / "images")
    n, threads, logits = len(list(images.iterdir())), {"read": set(), "compute": set(), "write": set()}, []
    next_was_read, written = threading.Event(), []
    read, write, compute = inference._read, inference.StagePredictor.write, inference.StagePredictor.logits

    def noted_read(*arguments):
        threads["read"].add(threading.get_ident())
        written.append(None)
        if len(written) > 1:
            next_was_read.set()
        return read(*arguments)

    def noted_compute(self, data):
        threads["compute"].add(threading.get_ident())
        assert next_was_read.wait(60), "the next case is not read while this one is segmented"
        assert all(earlier() is None for earlier in logits), "logits of another stage or case are still there"
        result = compute(self, data)
        logits.append(weakref.ref(result))
        return result

    def noted_write(*arguments):
        threads["write"].add(threading.get_ident())
        write(*arguments)

    monkeypatch.setattr(inference, "_read", noted_read)
    monkeypatch.setattr(inference.StagePredictor, "logits", noted_compute)
    monkeypatch.setattr(inference.StagePredictor, "write", noted_write)
    result = predict(images, tmp_path / "out")
    assert len(result.segmented) == n and len(logits) == 2 * n and result.seconds > 0
    assert len(set.union(*threads.values())) == 3
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == n


def test_a_gpu_does_not_wait_for_resampling(trained_crocnet, dataset, tmp_path, monkeypatch):
    predict(dataset / "imagesTr", tmp_path / "waits")
    threads, segment = [], inference.StagePredictor.segment
    monkeypatch.setattr(inference.StagePredictor, "on_gpu", True)
    monkeypatch.setattr(
        inference.StagePredictor, "segment", lambda *a: threads.append(threading.get_ident()) or segment(*a)
    )
    predict(dataset / "imagesTr", tmp_path / "goes_on")
    assert len(set(threads)) == 2  # stage 1's here, stage 2's beside the next case
    files = sorted((tmp_path / "waits").glob("*.nii.gz"))
    assert files and all(
        np.array_equal(nib.load(f).dataobj, nib.load(tmp_path / "goes_on" / f.name).dataobj) for f in files
    )


def test_a_case_that_a_gpu_has_segmented_and_that_cannot_be_finished_takes_no_other_with_it(
    trained_crocnet, dataset, tmp_path, monkeypatch
):
    judge, times = inference.unusual_segmentation, []

    def fails_once(*arguments):
        times.append(None)
        if len(times) == 1:
            raise ValueError("nothing to finish")
        return judge(*arguments)

    monkeypatch.setattr(inference.StagePredictor, "on_gpu", True)
    monkeypatch.setattr(inference, "unusual_segmentation", fails_once)
    result = predict(dataset / "imagesTs", tmp_path / "out")
    assert result.segmented == ["patient101_ES"] == [f.name[:13] for f in (tmp_path / "out").glob("*.nii.gz")]
    (problem,) = result.problems
    assert problem.endswith("patient101_ED_0000.nii.gz cannot be segmented: ValueError: nothing to finish")


@pytest.mark.parametrize("on_gpu", [False, True])
def test_what_cannot_be_written_stops_the_prediction_with_a_sentence(
    trained_crocnet, dataset, tmp_path, monkeypatch, on_gpu
):
    monkeypatch.setattr(inference.StagePredictor, "on_gpu", on_gpu)

    replace = os.replace

    def full(partial, file):
        if file.name.endswith(".nii.gz"):
            raise OSError(28, "No space left on device")
        replace(partial, file)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="nii.gz cannot be written .*No space left on device.*: is the disk full"):
        predict(dataset / "imagesTs", tmp_path / "out")
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_probabilities_are_nnunets(trained_crocnet, dataset, tmp_path):
    predict(dataset / "imagesTs", tmp_path / "out", save_probabilities=True)
    for file in (tmp_path / "out").glob("*.npz"):
        assert np.load(file)["probabilities"].sum(0) == pytest.approx(1, abs=1e-2)
