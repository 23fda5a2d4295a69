"""nnU-Net's sliding window, with tiles and their mirrored copies in batches."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from itertools import combinations
from typing import cast

import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch._dynamo import OptimizedModule

from nnunet_cardiac.errors import UserError
from nnunet_cardiac.models.saved_model import SavedModel, SavedStage
from nnunet_cardiac.networks.network import bare
from nnunet_cardiac.system import reuse_freed_memory
from nnunet_cardiac.training.memory import LiveStorage

MEMORY = {"cuda": 4e9, "cpu": 0.1e9}
"""Bytes that a forward pass may take: enough to keep the device busy. A processor whose caches overflow is slower."""
SHARE = 0.5
"""Of a GPU's free memory that a forward pass may take at most."""


class BatchedPredictor(nnUNetPredictor):
    """nnU-Net's predictor, which runs one tile and one mirrored copy of it at a time, with several at a time.

    What it adds up, and in what order, is the same. The network of every fold is loaded once.

    Args:
        memory: bytes that a forward pass may take; None for ``MEMORY``, at most ``SHARE`` of what a GPU has free
        bfloat16: run the networks in it, on a CPU, as nnU-Net's float16 on a GPU; copies and tiles are added up as ever
        others: as in ``nnUNetPredictor``

    Where ``copies`` is a dictionary and not None, the labels that each mirrored copy alone would give, uint8 (Z, Y, X),
    are put into it, by the axes that it is mirrored along; those of the last fold, where there are several.
    """

    use_mirroring: bool
    network: torch.nn.Module
    networks: list[torch.nn.Module]
    list_of_parameters: list[dict]

    def __init__(self, *args, memory: float | None = None, bfloat16: bool = False, **kwargs):
        super().__init__(*args, **kwargs)
        reuse_freed_memory(self.device)
        self.memory, self.bfloat16 = memory, bfloat16
        self._bytes_of_a_copy: dict[torch.Size, int] = {}
        self.copies: dict[tuple[int, ...], torch.Tensor] | None = None

    def initialize_from_trained_model_folder(self, *args, **kwargs):
        """As nnU-Net's; ``networks`` has one for each fold."""
        super().initialize_from_trained_model_folder(*args, **kwargs)
        self._load_every_fold()

    def initialize_from_saved_model(self, model: SavedModel, stage: SavedStage) -> None:
        """One stage of a saved model, which is built without its trainer.

        Raises:
            UserError: the weights are not those of the network that the plans describe
        """
        plans = PlansManager(model.plans)
        networks = model.build_networks(stage)
        self.manual_initialization(
            networks[0], plans, plans.get_configuration(stage.configuration), [], model.dataset_json, stage.trainer,
            stage.mirroring_axes,
        )  # fmt: skip
        self.networks = networks

    def _load_every_fold(self) -> None:
        compiled = isinstance(self.network, OptimizedModule)
        self.networks = []
        for parameters in self.list_of_parameters:
            network = deepcopy(bare(self.network))
            network.load_state_dict(parameters)
            self.networks.append(cast(torch.nn.Module, torch.compile(network)) if compiled else network)
        self.network, self.list_of_parameters = self.networks[0], []

    @contextmanager
    def unmirrored(self) -> Iterator[None]:
        """Predicts without mirrored copies, for what need not be exact."""
        before, self.use_mirroring = self.use_mirroring, False
        try:
            yield
        finally:
            self.use_mirroring = before

    @torch.inference_mode()
    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """As nnU-Net's, but that the logits stay on the device that they were added up on."""
        n_threads = torch.get_num_threads()
        torch.set_num_threads(min(default_num_processes, n_threads))
        self.network, *others = self.networks
        prediction = self.predict_sliding_window_return_logits(data)
        for self.network in others:
            prediction.add_(self.predict_sliding_window_return_logits(data).to(prediction.device))
        if others:
            prediction /= len(self.networks)
        torch.set_num_threads(n_threads)
        return prediction

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: Sequence[tuple], do_on_device: bool = True
    ) -> torch.Tensor:
        results_device = self.device if do_on_device else torch.device("cpu")
        data = data.to(results_device)
        heads = self.label_manager.num_segmentation_heads
        predicted_logits = torch.zeros((heads, *data.shape[1:]), dtype=torch.half, device=results_device)
        n_predictions = torch.zeros(data.shape[1:], dtype=torch.half, device=results_device)
        gaussian = 1
        if self.use_gaussian:
            gaussian = compute_gaussian(
                tuple(self.configuration_manager.patch_size), sigma_scale=1.0 / 8, value_scaling_factor=10,
                device=results_device,
            )  # fmt: skip

        axes = self.allowed_mirroring_axes if self.use_mirroring and self.allowed_mirroring_axes else ()
        mirrorings = [tuple(a + 1 for a in c) for n in range(len(axes) + 1) for c in combinations(axes, n)]
        copies = [(tile, mirroring) for tile in slicers for mirroring in mirrorings]
        shape, memory = data[slicers[0]].shape, self._available_memory()
        done, total = 0, torch.empty(0)  # the sum over a tile's copies begins anew with each unmirrored one
        while done < len(copies):
            # the first copy goes alone, to see what it takes
            n = max(1, int(memory // self._bytes_of_a_copy[shape])) if shape in self._bytes_of_a_copy else 1
            batch = copies[done : done + n]
            x = torch.stack([data[tile].flip(mirroring) for tile, mirroring in batch]).to(self.device)
            try:
                outputs = self._forward(x)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                self._bytes_of_a_copy[shape] *= 2
                continue
            done += len(batch)
            for (tile, mirroring), logits in zip(batch, outputs, strict=True):
                if self.copies is not None:
                    labels = self.copies.setdefault(mirroring, torch.zeros(data.shape[1:], dtype=torch.uint8))
                    labels[tile[1:]] = logits.flip(mirroring).argmax(0).to(labels)
                total = logits if mirroring == () else total.add_(logits.flip(mirroring))
                if mirroring == mirrorings[-1]:
                    total = total.div_(len(mirrorings)).to(results_device).mul_(gaussian)
                    predicted_logits[tile] += total
                    n_predictions[tile[1:]] += gaussian
        predicted_logits.div_(n_predictions)
        if not torch.isfinite(predicted_logits).all():
            raise UserError(
                f"{self.trainer_name} with {self.plans_manager.plans_name} gives logits that are NaN or infinite: "
                "its training has diverged; train it again, or choose another checkpoint with -chk."
            )
        return predicted_logits

    def _available_memory(self) -> float:
        if self.memory is not None:
            return self.memory
        if self.device.type == "cuda":
            return min(MEMORY["cuda"], SHARE * torch.cuda.mem_get_info(self.device)[0])
        return MEMORY["cpu"]

    def _forward(self, x: torch.Tensor) -> torch.Tensor:
        shape = x.shape[1:]
        with torch.autocast("cpu", torch.bfloat16) if self.bfloat16 else nullcontext():
            if shape in self._bytes_of_a_copy:
                return self._logits(x)
            # in inference mode it would be shown einsum whole, whose products autocast then does not see
            with torch.inference_mode(False), torch.no_grad(), LiveStorage() as storage:
                logits = self._logits(x)
        self._bytes_of_a_copy[shape] = max(storage.peak, 1)
        return logits

    def _logits(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.network(x)
        return logits.float() if self.bfloat16 else logits
