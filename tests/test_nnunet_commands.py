"""nnU-Net's training and prediction on our plans and trainers, each once as the process that users start.

What they and nnU-Net's other commands do is tested without processes: in test_predict.py, test_train.py and
test_trainer.py.
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
