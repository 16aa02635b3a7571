"""An adapter that moves a tiny model, and what plain transformers makes of it."""

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from selfimprove.types import Message

CONVERSATIONS = [(Message("user", text),) for text in ("What is 2 plus 3?", "hello", "<|end|> is not a turn's end")]
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_adapter(model_folder, out, targets=LINEAR, seed=1):
    """A LoRA adapter that moves the model far enough to answer otherwise."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=targets))
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        adapted.save_pretrained(out)
    return out


def logits(model, text="What is 2 plus 3?"):
    ids = torch.tensor([list(text.encode())])
    with torch.inference_mode():
        return model(ids).logits.float()


def adapted_logits(model_folder, adapter):
    base = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    return logits(PeftModel.from_pretrained(base, adapter).eval())


def nothing_left(folder):
    return sorted(p.name for p in folder.iterdir() if "out" in p.name) == []
