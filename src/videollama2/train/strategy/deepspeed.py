"""DeepSpeed's ZeRO 1 and 2 instead of FSDP, configured by the JSON file that other projects use too.

ZeRO 1 shards the optimizer state over the processes, ZeRO 2 the gradients too; weights are whole on each. Learning
rates, batch, clipping and precision come from the phase and the settings: "auto" in the file stands for them, and any
other value is rejected. Checkpoints are ours (checkpoint.py), without DeepSpeed's pickles.

DeepSpeed reduces gradients in the order in which they arrive, so the order must be the same on every process, whatever
its samples hold. `_Gate` ensures it: the gradients of everything that learns outside the layers arrive together, last.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ...errors import MissingExtra, UsageError
from ..distributed import Processes
from .base import MOMENTS, Moments, Strategy

_DECIDED_BY = {  # key of the file → the setting that decides it
    "optimizer": "the phase (--learning-rate, --rates, --weight-decay, --beta2)",
    "scheduler": "the phase (--schedule, --warmup)",
    "fp16": "--precision",
    "bf16": "--precision",
    "train_batch_size": "--batch",
    "train_micro_batch_size_per_gpu": "--micro-batch",
    "gradient_accumulation_steps": "--batch and --micro-batch",
    "gradient_clipping": "--clip",
}


class DeepSpeedZero(Strategy):
    """Optimizer state, and under ZeRO 2 gradients, sharded by DeepSpeed over the processes of torchrun."""

    lockstep = True
    engine: Any  # from `prepare_optimizer` on

    def __init__(self, processes: Processes, config: dict[str, Any]) -> None:
        super().__init__(processes)
        self.config = config

    @classmethod
    def join(cls, device: torch.device, file: Path) -> "DeepSpeedZero":
        """Join the processes that torchrun started.

        Raises:
            UsageError: the file can't be used, or this is not running under torchrun.
            MissingExtra: DeepSpeed is not installed.
        """
        config = read_config(file)
        if "RANK" not in os.environ:
            raise UsageError("DeepSpeed runs under torchrun: torchrun --nproc-per-node N -m videollama2 train ….")
        try:
            import deepspeed
        except ImportError:
            raise MissingExtra("--deepspeed requires DeepSpeed: pip install deepspeed") from None
        processes = Processes.join(device)
        deepspeed.init_distributed(dist_backend=dist.get_backend(), verbose=False)
        return cls(processes, config)

    def prepare_model(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        """Keep weights whole, and add the gate for trainable parts outside the layers."""
        self.gate = _Gate(model)

    def prepare_optimizer(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        micro_batch: int,
        accumulation_steps: int,
        max_norm: float,
    ) -> None:
        """Hand model and optimizer over to DeepSpeed, which replaces the optimizer's parameters by flat shards."""
        import deepspeed

        numbers = {
            "train_batch_size": micro_batch * accumulation_steps * self.processes.world_size,
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": accumulation_steps,
            "gradient_clipping": max_norm,
        }
        self.engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config={**self.config, **numbers}, dist_init_required=False
        )
        # created now: DeepSpeed looks for the states of all groups after the first group's first step
        for shard in self.engine.optimizer.single_partition_of_fp32_groups:
            optimizer.state[shard] = {"step": torch.tensor(0.0), **{m: torch.zeros_like(shard) for m in MOMENTS}}
        self.engine.optimizer._lazy_init_hp_params_optimizer_state()

    def forward(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        """The model's output for a micro-batch, through the gate."""
        return self.gate(inputs)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        """Add a micro-batch's gradients to those of the step."""
        self.engine.set_gradient_accumulation_boundary(last)
        # DeepSpeed averages over processes; the loss is a sum over them
        self.engine.backward(loss * self.processes.world_size, scale_wrt_gas=False)
        if not last:
            self.engine.step()  # only counts before the last micro-batch

    def step(self, optimizer: torch.optim.Optimizer, max_norm: float) -> float:
        """Clip and step, by DeepSpeed, which leaves the weights alone if the norm is not finite."""
        self.engine.step()
        return float(self.engine.get_global_grad_norm())

    def moments(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> Moments:
        """Parameter → its moments, whole, gathered to the CPU of every process."""
        from deepspeed.utils import safe_get_full_optimizer_state

        learning = [p for p in model.parameters() if p.requires_grad]
        return {p: {m: safe_get_full_optimizer_state(p, m).cpu() for m in MOMENTS} for p in learning}

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer, moments: Moments, step: int) -> None:
        """Copy weights and moments into DeepSpeed's shards."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for values in optimizer.state.values():
            values["step"] = torch.tensor(float(step))
        for parameter in (p for p in model.parameters() if p.requires_grad):
            safe_set_full_fp32_param(parameter, parameter.detach())
            for moment, value in moments.get(parameter, {}).items():
                safe_set_full_optimizer_state(parameter, value, moment)


def read_config(file: Path) -> dict[str, Any]:
    """A DeepSpeed configuration without the keys that the phase and the settings decide.

    Raises:
        UsageError: the file can't be read, contradicts the settings, or requests a stage other than ZeRO 1 or 2.
    """
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        stage = given.get("zero_optimization", {}).get("stage", 0)
    except (OSError, UnicodeDecodeError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} is not a readable DeepSpeed configuration ({error}).") from None
    if stage not in (1, 2):
        raise UsageError(
            f"{file} sets ZeRO stage {stage}; expected 1 or 2. To shard the weights too (ZeRO 3), omit --deepspeed: "
            "under torchrun that is what FSDP does."
        )
    for key, decides in _DECIDED_BY.items():
        value = given.get(key)
        if isinstance(value, dict) and key in ("fp16", "bf16"):
            value = None if value.get("enabled") in (None, "auto", False) else value
        if value not in (None, "auto"):
            raise UsageError(f'{file} sets {key}, which is decided by {decides}; remove it or set it to "auto".')
    kept = {key: value for key, value in given.items() if key not in _DECIDED_BY}
    zero = {k: v for k, v in kept["zero_optimization"].items() if v != "auto"}
    return {
        # the optimizer is torch's AdamW, wherever its state is
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        **{k: v for k, v in kept.items() if v != "auto"},
        "zero_optimization": zero,
    }


class _Joined(torch.autograd.Function):
    """Identity on several tensors whose gradients arrive at the same time, as zeros for unused ones."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients


class _Gate:
    """The model, with everything that learns outside its layers passed through one node of the graph.

    The embeddings' output depends on that node too, so the backward pass reaches it after all layers, on every process.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        inner: Any = model.model
        self.embeddings = inner.get_input_embeddings()
        inside = {id(p) for layer in inner.language_model.layers for p in layer.parameters()}
        self.names = [n for n, p in model.named_parameters() if p.requires_grad and id(p) not in inside]

    def __call__(self, inputs: Mapping[str, Any]) -> Any:
        if not self.names:
            return self.model(**inputs)
        parameters = dict(self.model.named_parameters())
        joined = _Joined.apply(*(parameters[name] for name in self.names))

        def tie(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return output + (joined[0].sum() * 0).to(output.dtype)

        hook = self.embeddings.register_forward_hook(tie)
        try:
            return torch.func.functional_call(self.model, dict(zip(self.names, joined, strict=True)), (), dict(inputs))
        finally:
            hook.remove()
