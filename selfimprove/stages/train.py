"""Train: survivors become examples, examples become an adapter."""

import time
from collections.abc import Mapping

from ..engines.engine import TrainingJob
from ..errors import MemoryError_
from ..fsio import folder_digest
from ..outcomes import Selection
from ..run.folder import adapter_folder
from ..run.session import Run
from ..seeds import seed_for
from ..types import Example, Poll, Split, Stage, unit_id
from .revision import fits, revision_examples


def train(run: Run, round_: int, job: TrainingJob) -> str | None:
    """Train the round's adapter and return the new policy's name; None without an example."""
    if not job.examples:
        return None
    policy = f"r{round_:04d}"
    out = adapter_folder(run.folder, policy)
    assert out is not None
    recorded = run.memory.result(round_, Stage.TRAIN)
    if recorded is not None:
        decided = run.memory.has_unit(unit_id(round_, Stage.GUARD))
        if decided and round_ not in run.memory.standing:
            return policy  # rejected or rolled back: not needed again
        if not out.is_dir() or folder_digest(out) != recorded["adapter_sha256"]:
            before = max(r for r in run.memory.standing if r < round_)
            raise MemoryError_(
                f"the adapter {out} is missing or was changed since it was trained; restore it, or "
                + (f"go back: selfimprove rollback {run.folder} {before}" if decided else "start another run: name=NEW")
            )
        return policy
    begun = time.monotonic()
    with run.progress.stage(Stage.TRAIN, 0, "steps") as bar:

        def on_step(step: int, steps: int, _: Mapping[str, float]) -> None:
            bar.reach(step, steps)

        report = run.engine.train(job, out, on_step)
    seconds = time.monotonic() - begun
    payload = report.as_dict() | {"adapter_sha256": folder_digest(out), "policy": policy}
    del payload["wall_s"], payload["peak_gb"]  # they differ after a resume, and the digest must not
    if revisions := [[example.response_id, list(example.shown)] for example in job.examples if example.shown]:
        payload["revisions"] = revisions
    run.memory.commit_result(round_, Stage.TRAIN, payload, wall_s=seconds)
    kl = "" if report.kl_last is None else f"KL {report.kl_last:.3f}"
    run.progress.line(
        Stage.TRAIN,
        f"{report.examples} examples, {report.steps} steps",
        f"loss {report.loss_first:.2f} -> {report.loss_last:.2f}",
        kl,
        seconds=seconds,
    )
    return policy


def imitate(run: Run, round_: int, selection: Selection) -> TrainingJob:
    """Return the training job of a round: each survivor as an example, the plain prompt and its text.

    With `train.revise.share`, examples in revise format come after them. Examples that exceed the model's positions,
    such as imported responses, are left out.
    With method `preference` an example has its prompt's least agreed answer as the rejected side, where there is one.
    """
    prompts = {p.id: p for p in run.prompts(Split.TRAIN)}
    chosen = {r.id: r for r in run.memory.candidates(ids=[v.response_id for v in selection.kept])}
    config = run.config.train
    rivals = _rivals(run, round_) if config.method == "preference" else {}
    made = [
        Example(
            prompt_id=response.prompt_id,
            messages=prompts[response.prompt_id].messages,
            completion=response.text,
            weight=verdict.weight,
            response_id=response.id,
            rejected=rivals.get(response.prompt_id),
        )
        for verdict in selection.kept
        if (response := chosen.get(verdict.response_id)) is not None  # excluded since
    ]
    examples = tuple(example for example in made if fits(run, example))
    if len(examples) < len(made):
        run.progress.say(f"  {len(made) - len(examples)} survivors exceed the model's positions: not trained on")
    return TrainingJob(
        (*examples, *revision_examples(run, round_, examples)),
        config,
        seed=seed_for(run.config.seed, round_, Stage.TRAIN),
        start=run.memory.current if config.start == "current" else None,
    )


def _rivals(run: Run, round_: int) -> dict[str, str]:
    """Return, for each prompt, a response with the least agreed answer (ScPO's rejected side)."""
    judgements = run.memory.judgements(round_, Poll.FINAL)
    tallies = run.memory.tallies(round_, Poll.FINAL)
    least: dict[str, tuple[float, int, str]] = {}
    for response in run.memory.candidates(ids=list(judgements)):
        judgement = judgements[response.id]
        if judgement.share is None or judgement.answer == tallies[response.prompt_id].answer:
            continue
        key = (judgement.share, response.id, response.text)
        least[response.prompt_id] = min(least.get(response.prompt_id, key), key)
    return {prompt_id: text for prompt_id, (_, _, text) in least.items()}
