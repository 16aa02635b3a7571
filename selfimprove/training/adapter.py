"""LoRA adapters: attached to a plain model for training, removed afterwards, saved in PEFT format."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import save_file

from ..config import TrainConfig
from ..errors import TrainingError
from ..fsio import new_folder, write_json
from ..models.policy import quiet_peft
from .fused_lora import fuse
from .fused_norm import fused_norms
from .targets import find_targets


@contextmanager
def attached(model: Any, spec: TrainConfig, *, seed: int, start: Path | None) -> Iterator[PeftModel]:
    """Attach a trainable adapter to the weights that `find_targets` names; remove it at the end.

    A new adapter is drawn from `seed` and changes nothing yet (B = 0); with `start` it is the one in that folder.
    """
    needed_grad = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    was_training = model.training
    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(seed)
        if start is None:
            targets = find_targets(model)
            config = LoraConfig(
                r=spec.rank,
                lora_alpha=spec.alpha,
                target_modules=list(targets.layers),
                target_parameters=list(targets.weights) or None,
                lora_dropout=0.0,
                fan_in_fan_out=targets.transposed,
                task_type="CAUSAL_LM",
            )
            policy = get_peft_model(model, config)
        else:
            policy = PeftModel.from_pretrained(model, str(start), is_trainable=True)
    fuse(policy)
    try:
        with fused_norms(policy):
            yield policy.eval()  # no dropout anywhere: the KL to the reference would measure it
    finally:
        policy.unload()
        vars(model).pop("peft_config", None)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(needed_grad[name])
        model.train(was_training)


def save_adapter(policy: PeftModel, out: Path, base_name: str | None, base_revision: str | None = None) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json` to the folder `out`, whole or not at all.

    Raises:
        TrainingError: the disk has no room.
    """
    config = {key: sorted(v) if isinstance(v, set) else v for key, v in policy.peft_config["default"].to_dict().items()}
    config |= {"base_model_name_or_path": base_name, "revision": base_revision, "inference_mode": True}
    config["target_modules"] = sorted(config["target_modules"])  # PEFT keeps them in sets
    if config["target_parameters"]:
        config["target_parameters"] = sorted(config["target_parameters"])
    weights = get_peft_model_state_dict(policy, save_embedding_layers=False)
    with new_folder(out) as folder:
        tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
        try:
            save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        except SafetensorError as error:
            raise TrainingError(
                f"the adapter {out} could not be written ({error}): see whether the disk has room left, then resume"
            ) from None
        write_json(folder / "adapter_config.json", config)
