"""What is looked at before anything is spent."""

from safetensors import safe_open
from tasks.tiny import exactly

from selfimprove.models.policy import Policy
from selfimprove.training.targets import find_targets


def test_the_size_of_an_adapter_is_known_before_there_is_one(undisturbed, taught_folder):
    with safe_open(undisturbed[0] / "adapters" / "r0001" / "adapter_model.safetensors", "pt") as file:
        written = sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118
    assert find_targets(Policy.load(exactly(taught_folder)).model).adapter_bytes(rank=4) == written
