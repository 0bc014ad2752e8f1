"""DeepSpeed in place of FSDP: ZeRO 1 and 2, from the JSON file that other projects' scripts use too.

DeepSpeed spreads the optimiser (ZeRO 1) and the gradients (ZeRO 2) over the processes; the weights are whole on each.
Learning rates, batch, clipping and number formats stay those of the phase and the settings: "auto" in the file means
just that, and another value there is refused. Checkpoints are ours (checkpoint.py), without DeepSpeed's pickles.

DeepSpeed adds up gradients in the order in which they arrive, so that order has to be the same in every process
whatever its samples hold. `_Gate` sees to it: those of all that learns outside the layers arrive together, last.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ..errors import MissingExtra, UsageError
from .checkpoint import MOMENTS
from .parallel import Processes, join_group

_OURS = {  # key of the file → what says it here
    "optimizer": "the phase (--learning-rate, --rates, --weight-decay, --beta2)",
    "scheduler": "the phase (--schedule, --warmup)",
    "fp16": "--precision",
    "bf16": "--precision",
    "train_batch_size": "--batch",
    "train_micro_batch_size_per_gpu": "--micro-batch",
    "gradient_accumulation_steps": "--batch and --micro-batch",
    "gradient_clipping": "--clip",
}


class DeepSpeedProcesses(Processes):
    """Processes that share the optimiser through DeepSpeed."""

    settings: dict[str, Any]
    engine: Any
    gate: "_Gate | None"
    last: bool

    @classmethod
    def joined(cls, device: torch.device, file: Path) -> "DeepSpeedProcesses":
        """The one that torchrun started here.

        Raises:
            UsageError: the file is none that can be used, or torchrun did not start this.
            MissingExtra: DeepSpeed is not installed.
        """
        settings = read(file)
        if "RANK" not in os.environ:
            raise UsageError("DeepSpeed runs under torchrun: torchrun --nproc-per-node N -m videollama2 train …")
        try:
            import deepspeed
        except ImportError:
            raise MissingExtra("--deepspeed needs DeepSpeed; run: pip install deepspeed") from None
        device = join_group(device)
        deepspeed.init_distributed(dist_backend=dist.get_backend(), verbose=False)
        made = cls(dist.get_rank(), dist.get_world_size(), device)
        for name, value in (("settings", settings), ("engine", None), ("gate", None)):
            object.__setattr__(made, name, value)  # the class is frozen for everybody else
        return made

    @property
    def together(self) -> bool:
        return True

    @property
    def spreads_weights(self) -> bool:
        return False

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def shard(self, model: nn.Module, dtype: torch.dtype | None) -> None:
        """Nothing is cut; what learns outside the layers gets its gate."""
        object.__setattr__(self, "gate", _Gate(model))

    def adopt(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, *, micro_batch: int, accumulated: int, clip: float
    ) -> torch.optim.Optimizer:
        import deepspeed

        numbers = {
            "train_batch_size": micro_batch * accumulated * self.world,
            "train_micro_batch_size_per_gpu": micro_batch,
            "gradient_accumulation_steps": accumulated,
            "gradient_clipping": clip,
        }
        engine, *_ = deepspeed.initialize(
            model=model, optimizer=optimizer, config={**self.settings, **numbers}, dist_init_required=False
        )
        object.__setattr__(self, "engine", engine)
        return _Spread(engine, optimizer)

    def forward(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        assert self.gate is not None  # `shard` comes first
        return self.gate(inputs)

    def backward(self, loss: Tensor, *, last: bool) -> None:
        self.engine.set_gradient_accumulation_boundary(last)
        self.engine.backward(loss * self.world, scale_wrt_gas=False)  # it takes the mean over the processes
        if not last:
            self.engine.step()  # counts, and changes nothing before the last one

    def step(self, optimizer: torch.optim.Optimizer, largest: float) -> float:
        self.engine.step()  # it clips, and leaves the weights alone where the norm is not finite
        return float(self.engine.get_global_grad_norm())


def read(file: Path) -> dict[str, Any]:
    """A DeepSpeed configuration without what our own settings say.

    Raises:
        UsageError: it can't be read, contradicts our settings, or asks for what is not possible here.
    """
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        stage = given.get("zero_optimization", {}).get("stage", 0)
    except (OSError, UnicodeDecodeError, ValueError, AttributeError) as error:
        raise UsageError(f"{file} is not a readable DeepSpeed configuration ({error})") from None
    if stage not in (1, 2):
        raise UsageError(
            f"{file} has ZeRO stage {stage}; expected 1 or 2. To spread the weights too (ZeRO 3), leave --deepspeed "
            "out: under torchrun FSDP does that"
        )
    for key, place in _OURS.items():
        value = given.get(key)
        if isinstance(value, dict) and key in ("fp16", "bf16"):
            value = None if value.get("enabled") in (None, "auto", False) else value
        if value not in (None, "auto"):
            raise UsageError(f'{file} sets {key}, which {place} decides; take it out, or say "auto"')
    kept = {key: value for key, value in given.items() if key not in _OURS}
    zero = {k: v for k, v in kept["zero_optimization"].items() if v != "auto"}
    # the optimiser is torch's own AdamW, wherever its state lies
    return {
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        **{k: v for k, v in kept.items() if v != "auto"},
        "zero_optimization": zero,
    }


class _Spread(torch.optim.Optimizer):
    """The optimiser as checkpoints see it: a parameter's moments, whole, gathered when they are asked for."""

    def __init__(self, engine: Any, inner: torch.optim.Optimizer) -> None:
        self.engine, self.inner = engine, inner
        self.param_groups = inner.param_groups
        self.parameters = [p for p in engine.module.parameters() if p.requires_grad]
        # made now, as DeepSpeed would look for the states of all groups after the first group's first step
        for flat in engine.optimizer.single_partition_of_fp32_groups:
            inner.state[flat] = {"step": torch.tensor(0.0), **{m: torch.zeros_like(flat) for m in MOMENTS}}
        engine.optimizer._lazy_init_hp_params_optimizer_state()

    @property
    def state(self) -> dict[Any, dict[str, Tensor]]:  # type: ignore[override]
        """Parameter → its moments, on the CPU; every process has to ask."""
        from deepspeed.utils import safe_get_full_optimizer_state

        return {p: {m: safe_get_full_optimizer_state(p, m).cpu() for m in MOMENTS} for p in self.parameters}

    def restored(self, state: Mapping[Any, Mapping[str, Tensor]], step: float) -> None:
        """Take over the parameters as they are now, and these moments."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        for values in self.inner.state.values():
            values["step"] = torch.tensor(step)
        for parameter in self.parameters:
            safe_set_full_fp32_param(parameter, parameter.detach())
            for moment, value in state.get(parameter, {}).items():
                safe_set_full_optimizer_state(parameter, value, moment)


class _Together(torch.autograd.Function):
    """Tensors as they are; their gradients come back at once, zeros where nothing used one."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.view_as(t) for t in tensors)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return gradients


class _Gate:
    """The model, with everything that learns outside its layers passed through one node of the graph.

    The embeddings' output leads to that node too, so that it comes after all layers on the way back, in every process.
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
        passed = _Together.apply(*(parameters[name] for name in self.names))

        def lead(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            return output + (passed[0].sum() * 0).to(output.dtype)

        hook = self.embeddings.register_forward_hook(lead)
        try:
            return torch.func.functional_call(self.model, dict(zip(self.names, passed, strict=True)), (), dict(inputs))
        finally:
            hook.remove()
