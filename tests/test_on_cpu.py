"""Trainings on a CPU, compiled or in bfloat16: for nnU-Net's trainers and ours, or a sentence why not."""

import json
from functools import partial

import pytest
import torch
from conftest import DATASET
from torch._dynamo import OptimizedModule

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.model import Model
from nnunet_cardiac.training.options import TrainingOptions
from nnunet_cardiac.training.train import train


@pytest.fixture
def backend(monkeypatch, tmp_path):
    """Compiles without inductor, which takes minutes; called with another backend, compiles with that."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    compile_with = torch.compile

    def backend(name) -> None:
        monkeypatch.setattr(torch, "compile", partial(compile_with, backend=name))

    backend("eager")
    return backend


@pytest.mark.slow
@pytest.mark.parametrize("trainer, plans", [("nnUNetTrainer", "nnUNetPlans"), ("nnUNetTrainerDADU", "nnUNetDADUPlans")])
def test_a_training_on_a_cpu_is_compiled(planned, backend, tmp_path, monkeypatch, trainer, plans):
    seen = []
    forward = OptimizedModule.__call__

    def count(self, *args, **kwargs):
        seen.append(self)
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(OptimizedModule, "__call__", count)
    model = Model(DATASET, trainer, plans, "2d")
    train(model, [0], TrainingOptions("cpu", budget=2, compile_on_cpu=True))
    assert len(seen) >= 2
    cost = json.loads((tmp_path / DATASET / model.name / "fold_0" / "training_cost.json").read_text())
    assert cost["compiled"] and cost["steps"] == 2


@pytest.mark.slow
def test_what_cannot_be_compiled_is_said_in_a_sentence(planned, backend):
    def refuses(graph, inputs):
        raise RuntimeError("no C++ compiler here")

    backend(refuses)
    options = TrainingOptions("cpu", budget=1, compile_on_cpu=True)
    with pytest.raises(UserError, match="PlainConvUNet cannot be compiled on this CPU: leave out --compile. .* no C"):
        train(Model(DATASET, "nnUNetTrainer", "nnUNetPlans", "2d"), [0], options)


@pytest.mark.parametrize("option, name", [("compile_on_cpu", "--compile"), ("bfloat16", "--bfloat16")])
def test_on_a_gpu_nnunet_does_both_of_itself(option, name):
    with pytest.raises(UserError, match=f"{name} is for -device cpu"):
        TrainingOptions("cuda", **{option: True})


@pytest.mark.parametrize("trainer, plans", [("nnUNetTrainer", "nnUNetPlans"), ("nnUNetTrainerDADU", "nnUNetDADUPlans")])
def test_steps_in_bfloat16_and_weights_and_whole_images_in_float32(planned, tmp_path, monkeypatch, trainer, plans):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    seen = {True: set(), False: set()}
    convolve = torch.nn.functional.conv2d

    def watch(x, weight, *args, **kwargs):
        result = convolve(x, weight, *args, **kwargs)
        seen[torch.is_grad_enabled()].add((weight.dtype, result.dtype))
        return result

    monkeypatch.setattr(torch.nn.functional, "conv2d", watch)
    model = Model(DATASET, trainer, plans, "2d")
    train(model, [0], TrainingOptions("cpu", budget=1, bfloat16=True))
    assert (torch.float32, torch.bfloat16) in seen[True]
    assert (torch.float32, torch.float32) in seen[False], "validation of whole images"
    folder = tmp_path / DATASET / model.name / "fold_0"
    assert json.loads((folder / "training_cost.json").read_text())["bfloat16"]
    weights = torch.load(folder / "checkpoint_final.pth", weights_only=False)["network_weights"]
    assert {w.dtype for w in weights.values() if w.is_floating_point()} == {torch.float32}
