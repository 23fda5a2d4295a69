"""nnU-Net's own commands on our plans and trainers, each once as the process that users start.

What they do in detail is tested without processes: in test_predict.py, test_train.py and test_trainer.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from conftest import CASCADE, DATASET, predict_with_nnunet

from nnunet_cardiac.environment import ext_trainer

pytestmark = pytest.mark.slow
STAGE_1, STAGE_2 = (f"{CASCADE[3]}__{CASCADE[5]}__{configuration}" for configuration in ("2d", "2d_cascade"))
ONE_STEP = """
from nnunet_cardiac.trainers.nnUNetTrainerCroCNet import nnUNetTrainerCroCNet


class nnUNetTrainerOneStep(nnUNetTrainerCroCNet):
    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = self.num_iterations_per_epoch = self.num_val_iterations_per_epoch = 1
"""


def start(command: str, *arguments, **environment) -> subprocess.CompletedProcess:
    program = [Path(sys.executable).with_name(command), *arguments]
    result = subprocess.run(list(map(str, program)), capture_output=True, text=True, env=os.environ | environment)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    return result


def test_train(planned, tmp_path):
    """A trainer of the user's own, which nnU-Net finds beside ours; nnU-Net draws, exports and evaluates."""
    (tmp_path / "nnUNetTrainerOneStep.py").write_text(ONE_STEP)
    (tmp_path / "results").mkdir()
    start(
        "nnUNetv2_train", "27", "2d", "0", "-tr", "nnUNetTrainerOneStep", "-p", CASCADE[5], "-device", "cpu",
        nnUNet_results=str(tmp_path / "results"), nnUNet_extTrainer=f"{tmp_path}{os.pathsep}{ext_trainer()}",
    )  # fmt: skip
    (fold,) = tmp_path.glob(f"results/{DATASET}/nnUNetTrainerOneStep__{CASCADE[5]}__2d/fold_0")
    assert (fold / "checkpoint_final.pth").is_file() and (fold / "progress.png").stat().st_size > 10_000
    assert len(json.loads((fold / "validation" / "summary.json").read_text())["metric_per_case"]) == 4


def test_predict(trained_crocnet, dataset, tmp_path):
    images = dataset / "imagesTs"
    stage_1 = (*CASCADE[:-1], "2d")
    start(
        "nnUNetv2_predict", "-i", images, "-o", tmp_path / "process", *stage_1, "-f", "0", "--disable_tta",
        "-device", "cpu", "-npp", "1", "-nps", "1",
    )  # fmt: skip
    predict_with_nnunet(images, tmp_path / "here", stage_1, "-f", "0", "--disable_tta")
    files = sorted((tmp_path / "process").glob("*.nii.gz"))
    assert len(files) == 2
    for file in files:
        one, other = (np.asanyarray(nib.load(f).dataobj) for f in (file, tmp_path / "here" / file.name))
        assert np.array_equal(one, other)


def test_export_and_install(trained_crocnet, tmp_path):
    names = ("-d", "27", "-f", "0", "1", "-c", "2d", "2d_cascade", "-tr", CASCADE[3], "-p", CASCADE[5])
    start("nnUNetv2_export_model_to_zip", *names, "-o", tmp_path / "model.zip", "--not_strict")
    results = tmp_path / "results"
    results.mkdir()
    start("nnUNetv2_install_pretrained_model_from_zip", tmp_path / "model.zip", nnUNet_results=str(results))
    for stage in (STAGE_1, STAGE_2):
        for fold in ("fold_0", "fold_1"):
            file = Path(DATASET, stage, fold, "checkpoint_final.pth")
            assert (results / file).read_bytes() == (trained_crocnet.parent / file).read_bytes()


def test_find_best_configuration(trained_crocnet):
    """Of one alone; test_predict.py compares several."""
    names = ("-p", CASCADE[5], "-tr", CASCADE[3], "-c", "2d_cascade", "-f", "0", "1")
    start("nnUNetv2_find_best_configuration", "27", *names, "--disable_ensembling", "-np", "1")
    information = json.loads((trained_crocnet / "inference_information.json").read_text())
    assert information["dataset_name_or_id"] in ("27", DATASET)
    assert [model["configuration"] for model in information["considered_models"]] == ["2d_cascade"]
