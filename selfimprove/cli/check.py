"""`selfimprove check`: prompts, model, chat template, disk, one generated answer, and a probe when asked for."""

import shutil
import time
from pathlib import Path

from ..answers import Reader
from ..config import RunConfig
from ..engines.server_client import refuse_unreachable
from ..errors import UserError
from ..memory import Embedder
from ..models.policy import Policy
from ..prompts import load_prompts
from ..run.folder import RUNS
from ..run.inherit import inherit
from ..run.rehearsal import rehearse
from ..run.validate import leave_out, refuse_unfit, refuse_unusable
from ..types import Sampling, Split
from .terminal import printable


def check(config: RunConfig, *, probe: bool = False) -> str:
    """Return a report on the prompts, model and disk of a configuration; `probe` adds a small sample.

    Raises:
        UserError: the run could not work.
    """
    from ..rollout import generate
    from ..training.targets import find_targets
    from . import estimate as probing

    prompts = load_prompts(config.prompts)
    refuse_unusable(config.prompts, prompts.prompts)
    embedder = Embedder.load(config.embedder, config.model.device)
    conversations = [prompt.conversation for prompt in prompts.prompts]
    vectors = embedder.encode(conversations)
    left_out = leave_out(prompts.prompts, vectors, embedder.encode)
    split = {s: [p for p in prompts.prompts if p.split is s and p.id not in left_out] for s in Split}
    policy = Policy.load(config.model)
    refuse_unfit(prompts.prompts, policy, config.sample.max_new_tokens)
    past = config.memory.from_ and inherit(config.memory.from_, prompts.prompts, vectors, embedder, policy.fingerprint)
    targets = find_targets(policy.model)
    needed = (config.rounds * targets.adapter_bytes(config.train.rank) + 2**28) / 1e9
    free = shutil.disk_usage(RUNS if RUNS.is_dir() else Path()).free / 1e9
    if free < needed:
        raise UserError(f"{free:.1f} GB free on disk, about {needed:.1f} GB needed for {config.rounds} rounds")
    if config.engine == "server":
        refuse_unreachable(config.server)
    rehearsal = rehearse(policy, config.train, [p.messages for p in prompts.prompts])
    prompt = split[Split.TRAIN][0]
    ids = policy.encode(prompt.messages)
    began = time.monotonic()
    sampling = Sampling.greedy(min(16, config.sample.max_new_tokens))
    rollout = generate(
        policy.model, [ids], [0], sampling, eos_ids=policy.eos_ids, pad_id=policy.pad_id, stop=policy.stop
    )[0]
    seconds = time.monotonic() - began
    answer = policy.decode(rollout.token_ids)
    reader = Reader.of(config, opened=policy.opens_thinking)
    if reader.own is not None:
        reader.classes(prompt.text, [answer], reader.kind(prompt.text, [answer]))  # refuses what fails
    lines = [
        f"prompts   {len(split[Split.TRAIN])} to learn from, {len(split[Split.HELDOUT])} held out, "
        f"{prompts.duplicates} duplicates, {len(prompts.skipped)} malformed lines, "
        f"{len(left_out)} near-duplicates of held-out ones left out",
        *(f"          {skipped}" for skipped in prompts.skipped[:5]),
        *([f"columns   {columns}"] if (columns := prompts.columns()) else []),
        f"model     {config.model.path}, {str(policy.dtype).removeprefix('torch.')} on {policy.device}, "
        f"chat template {'its own' if policy.has_chat_template else 'none: Question / Answer is used'}",
        f"adapter   rank {config.train.rank} {rehearsal.adapted}",
        f"rehearsal a step with a high rate changes the logits by {rehearsal.effect:.0%}, "
        f"of which merging keeps {rehearsal.kept:.0%}",
        f"tokens    {len(ids)} in the first prompt, end of turn {policy.tokenizer.decode([policy.end_of_turn])!r}",
        f"disk      {free:.0f} GB free, about {needed:.1f} GB needed",
        f"answer    {prompt.text[:60]!r} -> {answer!r} in {seconds:.1f} s",
        f"round     {config.sample.k} samples + up to {config.propose.exemplar.k} answers with demonstrations for each "
        f"of {len(split[Split.TRAIN])} prompts, {config.rounds} rounds",
    ]
    if past:
        lines.append(f"memory    {past.said}; {len(past.left_out)} of the prompts left out for that")
    if reader.own is not None:
        lines.append(f"reader    {reader.own.name}")
    if reader.thinking.opened or reader.final_text(answer) is None:
        lines.append(
            "thinking  the model reasons before it answers, and sample.max_new_tokens is "
            f"{config.sample.max_new_tokens}: reasoning that is cut off has no vote; raise it to some thousands, or "
            "switch reasoning off, for many models with model.template.arguments={enable_thinking: false}"
        )
    if probe:
        sizes = [len(split[s]) for s in (Split.TRAIN, Split.HELDOUT)]
        lines += probing.report(config, probing.take(config, policy, embedder, split[Split.TRAIN]), *sizes)
    return printable("\n".join(lines))  # columns and malformed lines are named as the file has them
