"""The training objective: weighted NLL + KL, or preference pairs, row by row of a step."""

from collections.abc import Sequence

import torch
from peft import PeftModel

from ..config import TrainConfig
from .losses import dpo_loss, token_losses
from .model_split import Network
from .packing import Encoded, Packed
from .transfer import to_device

Figures = dict[str, float]
"""Parts of a step's loss; those of its rows add up."""

RowFigures = dict[str, torch.Tensor | float]
"""Those of a row, as tensors on the device: read at once, they would make the host wait for each row."""


class Objective:
    """The loss of one optimizer step, row by row.

    The reference is the same model with the adapter off. What the losses need of it is computed when an example is
    first met and kept, unless `remember` is off: (tokens, d) states for the KL, two log-probabilities for a pair.
    While the policy is the reference (`unmoved`, before the first step of a new adapter) it is not computed twice.
    """

    def __init__(
        self,
        policy: PeftModel,
        network: Network,
        spec: TrainConfig,
        *,
        remember: bool = True,
        unmoved: bool = False,
    ) -> None:
        self.remember = remember
        self.unmoved = unmoved
        self.policy = policy
        self.network = network
        self.spec = spec
        self.reference: dict[Encoded, torch.Tensor] = {}

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures of a step, its loss first."""
        if self.spec.method == "sft":
            return ("loss", "nll", "kl") if self.spec.beta else ("loss", "nll")
        return ("loss", "nll", "margin")

    def row(self, packed: Packed, row: Sequence[Encoded], step: Sequence[Encoded]) -> tuple[torch.Tensor, RowFigures]:
        """Return the loss of the packed examples `row`, as their part of the loss of `step`, and its figures."""
        if self.spec.method == "sft":
            return self._imitation(packed, row, step)
        return self._preference(packed, row, step)

    def _imitation(
        self, packed: Packed, row: Sequence[Encoded], step: Sequence[Encoded]
    ) -> tuple[torch.Tensor, RowFigures]:
        """Sum of weight * NLL over the completion tokens / their total weight + beta * mean KL(policy || reference)."""
        tokens = sum(len(e.completion) for e in step)
        weight = sum(e.weight * len(e.completion) for e in step)
        nll_weight = self._zeros(packed)
        share = self._zeros(packed)  # of the step's completion tokens
        for example, (span, *_) in zip(row, packed.spans, strict=True):
            nll_weight[span] += example.weight / weight
            share[span] += 1 / tokens
        nll_weight, share = (to_device(x, packed.targets.device) for x in (nll_weight, share))
        reference = self._reference_states(packed, row) if self.spec.beta and not self.unmoved else None
        states = self.network.states(packed)
        if self.spec.beta and self.unmoved:  # the KL and its gradient are 0
            self._keep_states(states.detach(), packed, row)
        loss, nll, kl = token_losses(
            states, self.network.head, packed.targets, nll_weight, reference, self.spec.beta * share
        )
        figures: RowFigures = {"nll": nll @ nll_weight}
        if self.spec.beta:
            figures["kl"] = kl @ share
        return loss.sum(), figures

    def _preference(
        self, packed: Packed, row: Sequence[Encoded], step: Sequence[Encoded]
    ) -> tuple[torch.Tensor, RowFigures]:
        """ScPO (Prasad et al. 2024): the mean over examples of weight * (DPO + NLL of the chosen per token).

        An example without a rejected completion has no DPO term.
        """
        reference = [] if self.unmoved else self._reference_log_probs(packed, row)
        log_probs = self._log_probs(packed)
        if self.unmoved:
            reference = self._keep_log_probs([own.detach() for own in log_probs], row)
        loss = log_probs[0][0].new_zeros(())
        totals = {"nll": 0.0, "margin": 0.0}
        pairs = sum(e.rejected is not None for e in step)
        for example, own, ref in zip(row, log_probs, reference, strict=True):
            nll = -own[0] / len(example.completion)
            part = nll
            if example.rejected is not None:
                part = part + dpo_loss(own[0], own[1], ref[0], ref[1], self.spec.dpo_beta)
                gain = own.detach() - ref
                totals["margin"] += float(gain[0] - gain[1]) / pairs
            loss = loss + example.weight * part / len(step)
            totals["nll"] += float(nll.detach()) / len(step)
        return loss, dict(totals)

    def _log_probs(self, packed: Packed) -> list[torch.Tensor]:
        """For each example, the log-probabilities of its one or two completions."""
        ones = (self._zeros(packed) + 1).to(packed.targets.device)
        nll, *_ = token_losses(self.network.states(packed), self.network.head, packed.targets, ones)
        return [torch.stack([-nll[span].sum() for span in of_example]) for of_example in packed.spans]

    def _reference_log_probs(self, packed: Packed, row: Sequence[Encoded]) -> list[torch.Tensor]:
        if self.remember and all(e in self.reference for e in row):
            return [self.reference[e] for e in row]
        with torch.no_grad(), self.policy.disable_adapter():
            found = self._log_probs(packed)
        return self._keep_log_probs(found, row)

    def _keep_log_probs(self, found: list[torch.Tensor], row: Sequence[Encoded]) -> list[torch.Tensor]:
        if self.remember:
            self.reference.update(zip(row, found, strict=True))
        return found

    def _reference_states(self, packed: Packed, row: Sequence[Encoded]) -> torch.Tensor:
        if self.remember and all(e in self.reference for e in row):
            width = self.reference[row[0]].shape[1]
            # zeros: what is not a kept completion has no share of the KL, yet must be finite
            states = torch.zeros(len(packed.at), width, dtype=self.network.model.dtype)
            for example, (span, *_) in zip(row, packed.spans, strict=True):
                states[span] = self.reference[example]
            return to_device(states, packed.at.device)
        with torch.no_grad(), self.policy.disable_adapter():
            states = self.network.states(packed)
        self._keep_states(states, packed, row)
        return states

    def _keep_states(self, states: torch.Tensor, packed: Packed, row: Sequence[Encoded]) -> None:
        if self.remember and self.network.head.weight is not None:  # whole logits would be too much to keep
            kept = states.cpu()
            self.reference.update((e, kept[span]) for e, (span, *_) in zip(row, packed.spans, strict=True))

    def _zeros(self, packed: Packed) -> torch.Tensor:
        """(N,) zeros in main memory, in float32 or wider."""
        return torch.zeros(len(packed.targets), dtype=torch.promote_types(self.network.model.dtype, torch.float32))
