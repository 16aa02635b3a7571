"""The stages of a round: plan units of work from what is committed, run those that are not, commit each whole."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from .consistency.answers import Kind, classes, kind_of
from .consistency.select import Candidate
from .consistency.select import select as select_candidates
from .consistency.vote import Ballot, cross_prompt_prior
from .consistency.vote import vote as count_votes
from .errors import MemoryError_
from .fsio import folder_digest
from .memory.recall import own_past, trusted
from .propose import exemplar as exemplars
from .propose import revise as revisions
from .propose import stitch as stitches
from .propose.ledger import OperatorLedger, ledger
from .run import Run, adapter_folder
from .seeds import seed_for
from .types import (
    VOTERS,
    Example,
    Generation,
    Judgement,
    Origin,
    Prompt,
    Request,
    Response,
    Sampling,
    Selection,
    Split,
    Stage,
    Tally,
    Unit,
    unit_id,
)

RECALLED = {Stage.SAMPLE, Stage.EXEMPLAR, Stage.REVISE, Stage.STITCH}
"""Stages whose responses are embedded: only these are ever looked up."""

Plan = Callable[[Sequence[Prompt]], list[Request]]
"""From the prompts of one unit to its requests; a pure function of what earlier stages committed."""


def sampling(run: Run, max_new_tokens: int | None = None) -> Sampling:
    """Return how this run draws tokens."""
    s = run.config.sample
    return Sampling(s.temperature, s.top_k, s.top_p, max_new_tokens or s.max_new_tokens)


def run_units(
    run: Run,
    round_: int,
    stage: Stage,
    prompts: Sequence[Prompt],
    plan: Plan,
    policy: str,
    how: Sampling | None = None,
) -> list[Response]:
    """Generate and commit what `plan` asks for, a unit of prompts at a time; return the stage's responses.

    Units that are committed already are not planned again.
    """
    started = time.monotonic()
    size = run.config.sample.unit_prompts
    batches = [prompts[i : i + size] for i in range(0, len(prompts), size)]
    with run.progress.stage(stage, len(prompts), "prompts") as bar:
        for index, batch in enumerate(batches):
            if not run.memory.has_unit(unit_id(round_, stage, index)):
                begun = time.monotonic()
                unit = Unit(round_, stage, index, tuple(plan(batch)), how or sampling(run), policy)
                generations = run.engine.generate(unit, bar.tokens)
                vectors = _embed(run, batch, unit, generations) if stage in RECALLED else None
                run.memory.commit_unit(unit, generations, vectors, wall_s=time.monotonic() - begun)
            bar.advance(len(batch))
    responses = run.memory.responses(rounds=[round_], stages=[stage])
    truncated = sum(r.finish == "length" for r in responses)
    tokens = sum(r.new_tokens for r in responses)
    run.progress.line(
        stage,
        f"{len(prompts)} prompts",
        f"{len(responses)} responses",
        f"{tokens} tokens",
        f"{truncated} truncated" if truncated else "",
        seconds=time.monotonic() - started,
    )
    return responses


def _embed(run: Run, batch: Sequence[Prompt], unit: Unit, generations: Sequence[Generation]) -> np.ndarray:
    asked = {p.id: p.text for p in batch}
    return run.embedder.encode(
        [f"{asked[r.prompt_id]}\n{g.text}" for r, g in zip(unit.requests, generations, strict=True)]
    )


def sample(run: Run, round_: int) -> list[Response]:
    """Answer every train prompt k times with the current policy."""

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return [
            Request(p.id, Origin.SAMPLE, p.messages, seed_for(run.config.seed, round_, Stage.SAMPLE, p.id, slot))
            for p in batch
            for slot in range(run.config.sample.k)
        ]

    return run_units(run, round_, Stage.SAMPLE, run.prompts(Split.TRAIN), plan, run.memory.current)


def exemplar(run: Run, round_: int) -> list[Response]:
    """Answer the prompts that are not decided yet again, after recalled, trusted answers to other prompts."""
    config = run.config.propose.exemplar
    tallies = run.memory.tallies(round_, 0)

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        centre = run.memory.prompt_vectors([p.id for p in batch]).mean(axis=0, keepdims=True)
        recalled = trusted(
            run.memory,
            run.index,
            centre / np.linalg.norm(centre),
            round=round_,
            vote_index=0,
            min_support=config.trust,
            k=config.pool,
            diversity=config.diversity,
        )[0]
        key = (run.config.seed, round_)
        return exemplars.plan(batch, recalled, k=config.k, shots=config.shots, seed_key=key)

    open_prompts = _below(run, tallies, config.below) if config.k else []
    return run_units(run, round_, Stage.EXEMPLAR, open_prompts, plan, run.memory.current)


def revise(run: Run, round_: int) -> list[Response]:
    """Show the model its differing answers to a disputed prompt, have it criticise them, then write a better one."""
    config = run.config.propose.revise
    disputed = _below(run, run.memory.tallies(round_, 1), config.below) if config.k else []
    groups, answers = _past(run, round_, disputed)
    key = (run.config.seed, round_)

    def plan_critiques(batch: Sequence[Prompt]) -> list[Request]:
        return revisions.plan_critiques(batch, groups, answers, k=config.k, rivals=config.rivals, seed_key=key)

    how = sampling(run, config.critique_tokens)
    critiques = run_units(run, round_, Stage.CRITIQUE, disputed, plan_critiques, run.memory.current, how)
    by_prompt = _by_prompt(critiques)

    def plan_revisions(batch: Sequence[Prompt]) -> list[Request]:
        written = [c for p in batch for c in by_prompt.get(p.id, ())]
        return revisions.plan_revisions(batch, written, groups, seed_key=key)

    return run_units(run, round_, Stage.REVISE, disputed, plan_revisions, run.memory.current)


def stitch(run: Run, round_: int) -> list[Response]:
    """Join the best-voted steps of past responses to a prompt and let the model continue from there."""
    config = run.config.propose.stitch
    tallies = run.memory.tallies(round_, 1)
    open_prompts = _below(run, tallies, config.below) if config.k else []
    groups, answers = _past(run, round_, open_prompts)

    def plan(batch: Sequence[Prompt]) -> list[Request]:
        return stitches.plan(
            batch,
            groups,
            answers,
            tallies,
            k=config.k,
            same=config.same,
            embed=run.embedder.encode,
            seed_key=(run.config.seed, round_),
        )

    return run_units(run, round_, Stage.STITCH, open_prompts, plan, run.memory.current)


VOTING = ({Stage.SAMPLE}, {Stage.SAMPLE, Stage.EXEMPLAR}, {Stage.SAMPLE, Stage.EXEMPLAR, Stage.REVISE, Stage.STITCH})
"""Stages of the round itself whose responses take part in its votes 0, 1 and 2."""


def vote(run: Run, round_: int, index: int) -> dict[str, Tally]:
    """Count the votes on every train prompt, earlier rounds' responses included at a decayed weight."""
    if not run.memory.has_unit(unit_id(round_, Stage.VOTE, index)):
        begun = time.monotonic()
        groups = _by_prompt(_voters(run, round_, index))
        tallies, judgements = _count(run, round_, groups)
        seconds = time.monotonic() - begun
        run.memory.commit_vote(round_, judgements, tallies, index=index, wall_s=seconds)
        decided = [t for t in tallies if t.answer is not None]
        run.progress.line(
            Stage.VOTE,
            f"{sum(t.voters for t in tallies)} votes on {len(decided)} prompts",
            f"mean agreement {np.mean([t.agreement for t in decided] or [0.0]):.2f}",
            f"{sum(t.abstained for t in tallies)} abstained",
            seconds=seconds,
        )
    return run.memory.tallies(round_, index)


def _count(run: Run, round_: int, groups: Mapping[str, Sequence[Response]]) -> tuple[list[Tally], list[Judgement]]:
    config = run.config.vote
    ballots: dict[str, list[Ballot]] = {}
    for prompt in run.prompts(Split.TRAIN):
        group = groups.get(prompt.id, ())
        if group:
            answers = read_answers(run, prompt, group)
            ballots[prompt.id] = [
                Ballot(r.id, answer, r.origin.derived, config.decay ** (round_ - r.round))
                for r, answer in zip(group, answers, strict=True)
            ]
    priors = cross_prompt_prior(ballots, strength=config.prior) if config.prior else {}
    votes = [
        count_votes(id_, cast, derived_cap=config.derived_cap, prior=priors.get(id_)) for id_, cast in ballots.items()
    ]
    return [tally for tally, _ in votes], [j for _, judgements in votes for j in judgements]


def read_answers(run: Run, prompt: Prompt, group: Sequence[Response]) -> list[str | None]:
    """Return the answer class of each response of a group."""
    texts = [r.text for r in group]
    return classes(texts, answer_kind(run, prompt, texts), prompt.text, run.embedder.encode, run.config.vote.same)


def answer_kind(run: Run, prompt: Prompt, texts: Sequence[str]) -> Kind:
    """Return how the final answers to a prompt are read: as configured, or by looking at prompt and answers."""
    kind = run.config.vote.kind
    return kind_of(prompt.text, texts) if kind == "auto" else Kind(kind)


def select(run: Run, round_: int) -> Selection:
    """Sort the candidates of this round (and, when accumulating, of all rounds) into kept and dropped."""
    begun = time.monotonic()
    if not run.memory.has_unit(unit_id(round_, Stage.SELECT)):
        judgements = run.memory.judgements(round_, 2)
        responses = [
            r for r in run.memory.responses(ids=list(judgements)) if run.config.train.accumulate or r.round == round_
        ]
        vectors = run.memory.vectors([r.id for r in responses])
        candidates = [Candidate(r, judgements[r.id], v) for r, v in zip(responses, vectors, strict=True)]
        groups = _by_prompt(responses)
        kinds = {
            p.id: answer_kind(run, p, [r.text for r in groups[p.id]])
            for p in run.prompts(Split.TRAIN)
            if p.id in groups
        }
        chosen = select_candidates(
            candidates,
            run.memory.tallies(round_, 2),
            run.config.select,
            ancestors=run.memory.ancestors,
            kinds=kinds,
        )
        run.memory.commit_selection(round_, chosen, wall_s=time.monotonic() - begun)
    verdicts = run.memory.verdicts(round_).values()
    selection = Selection(tuple(v for v in verdicts if v.kept), tuple(v for v in verdicts if not v.kept))
    most = Counter(str(verdict.reason) for verdict in selection.dropped).most_common(3)
    run.progress.line(
        Stage.SELECT,
        f"kept {len(selection.kept)} of {len(verdicts)}",
        "dropped: " + ", ".join(f"{count} {reason}" for reason, count in most) if most else "",
        seconds=time.monotonic() - begun,
    )
    for origin, book in operators(run, round_).items():
        run.progress.line(
            "",
            f"{origin}: {book.survivors} of {book.candidates} survive, {book.votes_changed} votes changed, "
            f"{book.tokens} tokens",
        )
    return selection


def operators(run: Run, round_: int) -> dict[Origin, OperatorLedger]:
    """Return what each operator of a round cost and brought in."""
    return ledger(
        run.memory.responses(rounds=[round_], origins=VOTERS),
        run.memory.judgements(round_, 2),
        run.memory.tallies(round_, 0),
        run.memory.tallies(round_, 2),
        run.memory.verdicts(round_).values(),
    )


def train(run: Run, round_: int, selection: Selection) -> str:
    """Train the round's adapter on the survivors and return the new policy's name."""
    policy = f"r{round_:04d}"
    out = adapter_folder(run.folder, policy)
    assert out is not None
    recorded = run.memory.result(round_, Stage.TRAIN)
    if recorded is not None:
        if not out.is_dir() or folder_digest(out) != recorded["adapter_sha256"]:
            raise MemoryError_(
                f"the adapter {out} is missing or was changed since it was trained; restore it, "
                f"or go back: selfimprove rollback {run.folder} {round_ - 1}"
            )
        return policy
    begun = time.monotonic()
    examples = _examples(run, round_, selection)
    config = run.config.train
    start = run.memory.current if config.start == "current" else None
    with run.progress.stage(Stage.TRAIN, 0, "steps") as bar:

        def on_step(step: int, steps: int, record: Mapping[str, float]) -> None:
            bar.reach(step, steps)

        seed = seed_for(run.config.seed, round_, Stage.TRAIN)
        report = run.engine.train(examples, config, seed=seed, out=out, start=start, on_step=on_step)
    seconds = time.monotonic() - begun
    payload = report.as_dict() | {"adapter_sha256": folder_digest(out), "policy": policy}
    del payload["wall_s"], payload["peak_gb"]  # not part of what must be equal after a resume
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


def _examples(run: Run, round_: int, selection: Selection) -> list[Example]:
    """Return the survivors as training examples: the plain prompt, the text, and a rival where pairs are asked for."""
    prompts = {p.id: p for p in run.prompts(Split.TRAIN)}
    chosen = {r.id: r for r in run.memory.responses(ids=[v.response_id for v in selection.kept])}
    rivals = _rivals(run, round_) if run.config.train.method == "preference" else {}
    return [
        Example(
            prompt_id=response.prompt_id,
            messages=prompts[response.prompt_id].messages,
            completion=response.text,
            weight=verdict.weight,
            response_id=response.id,
            rejected=rivals.get(response.prompt_id),
        )
        for verdict in selection.kept
        for response in (chosen[verdict.response_id],)
    ]


def _rivals(run: Run, round_: int) -> dict[str, str]:
    """Return, for each prompt, a response with the least agreed answer (ScPO's rejected side)."""
    judgements = run.memory.judgements(round_, 2)
    tallies = run.memory.tallies(round_, 2)
    least: dict[str, tuple[float, int, str]] = {}
    for response in run.memory.responses(ids=list(judgements)):
        judgement = judgements[response.id]
        if judgement.share is None or judgement.answer == tallies[response.prompt_id].answer:
            continue
        key = (judgement.share, response.id, response.text)
        least[response.prompt_id] = min(least.get(response.prompt_id, key), key)
    return {prompt_id: text for prompt_id, (_, _, text) in least.items()}


def _voters(run: Run, round_: int, index: int) -> list[Response]:
    earliest = 1 if run.config.vote.decay else round_
    responses = run.memory.responses(rounds=range(earliest, round_ + 1), origins=VOTERS)
    stages = {str(stage) for stage in VOTING[index]}
    return [r for r in responses if r.round < round_ or r.origin in stages]


def _past(run: Run, round_: int, prompts: Sequence[Prompt]) -> tuple[dict[str, list[Response]], dict[int, str | None]]:
    """Return own past answers to these prompts that vote 1 has read, and the answer of each."""
    judged = run.memory.judgements(round_, 1)
    past = own_past(run.memory, [p.id for p in prompts], round_)
    groups = {id_: [r for r in group if r.id in judged] for id_, group in past.items()}
    return groups, {id_: j.answer for id_, j in judged.items()}


def _below(run: Run, tallies: Mapping[str, Tally], limit: float) -> list[Prompt]:
    return [p for p in run.prompts(Split.TRAIN) if p.id in tallies and tallies[p.id].support < limit]


def _by_prompt(responses: Iterable[Response]) -> dict[str, list[Response]]:
    groups: dict[str, list[Response]] = defaultdict(list)
    for response in responses:
        groups[response.prompt_id].append(response)
    return groups
