"""Revise: a critique of differing own answers to a prompt, then a new answer.

Only for prompts with differing answers: self-correction without new evidence lowers accuracy (Huang et al. 2023).
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from ..models.conversation import ask
from ..run.session import Run
from ..seeds import seed_for
from ..types import Message, Origin, Poll, Prompt, Request, Response, Stage
from .units import between, by_prompt, past_answers, run_units

CRITIQUE = (
    "{question}\n\nHere are answers to this question that contradict each other:\n{answers}\n\n"
    "At most one of them is right. Say briefly what is wrong in each wrong answer."
)
REVISE = "Now answer the question again, correctly. Write only the answer.\n\n{question}"


def plan_critiques(
    prompts: Sequence[Prompt],
    groups: Mapping[str, Sequence[Response]],
    answers: Mapping[int, str | None],
    *,
    k: int,
    rivals: int,
    seed_key: tuple[object, ...],
) -> list[Request]:
    """Return `k` requests for a critique of up to `rivals` differing answers to each prompt.

    The context has the shortest response of each of the most frequent answers, in a random order per request, so that
    the position does not reveal the majority. Prompts with fewer than two answers are skipped.
    """
    requests = []
    for prompt in prompts:
        shown = _rivals(groups.get(prompt.id, ()), answers, rivals)
        if len(shown) < 2:
            continue
        for slot in range(k):
            seed = seed_for(*seed_key, Stage.CRITIQUE, prompt.id, slot)
            order = sorted(shown, key=lambda response: seed_for(seed, response.id))
            requests.append(
                Request(
                    prompt_id=prompt.id,
                    origin=Origin.CRITIQUE,
                    messages=_critique(prompt, order),
                    seed=seed,
                    parents=tuple(response.id for response in order),
                )
            )
    return requests


def plan_revisions(
    prompts: Sequence[Prompt],
    critiques: Sequence[Response],
    groups: Mapping[str, Sequence[Response]],
    *,
    seed_key: tuple[object, ...],
) -> list[Request]:
    """Return one request for a corrected answer after each critique, which stays in the conversation.

    Parents: the answers shown, in order, and the critique. Empty critiques are skipped.
    """
    asked = {prompt.id: prompt for prompt in prompts}
    requests = []
    for critique in critiques:
        prompt, text = asked[critique.prompt_id], critique.text.strip()
        if not text:
            continue
        known = {response.id: response for response in groups[prompt.id]}
        conversation = _critique(prompt, [known[parent] for parent in critique.parents])
        requests.append(
            Request(
                prompt_id=prompt.id,
                origin=Origin.REVISE,
                messages=(
                    *conversation,
                    Message("assistant", text),
                    Message("user", REVISE.format(question=prompt.text)),
                ),
                seed=seed_for(*seed_key, Stage.REVISE, prompt.id, critique.id),
                parents=(*critique.parents, critique.id),
            )
        )
    return requests


def _rivals(group: Sequence[Response], answers: Mapping[int, str | None], most: int) -> list[Response]:
    """Return the shortest response of each of the `most` frequent answers; ties go to the earlier response."""
    answered = [response for response in group if answers.get(response.id) is not None]
    counts = Counter(answers[response.id] for response in answered)
    shortest: dict[str | None, Response] = {}
    for response in sorted(answered, key=lambda r: (len(r.text), r.id)):
        shortest.setdefault(answers[response.id], response)
    return sorted(shortest.values(), key=lambda r: (-counts[answers[r.id]], r.id))[:most]


def _critique(prompt: Prompt, shown: Sequence[Response]) -> tuple[Message, ...]:
    listed = "\n".join(f"{number}. {response.text.strip()}" for number, response in enumerate(shown, start=1))
    return ask(prompt, CRITIQUE.format(question=prompt.text, answers=listed))


def revise(run: Run, round_: int) -> None:
    """Critique and revise the answers to prompts with support between `propose.revise.above` and `below`."""
    config = run.config.propose.revise
    tallies = run.memory.tallies(round_, Poll.RECALLED)
    disputed = between(run, tallies, config.above, config.below) if config.k else []
    groups, answers = past_answers(run, round_, disputed)
    key = (run.config.seed, round_)

    def critique(batch: Sequence[Prompt]) -> list[Request]:
        return plan_critiques(batch, groups, answers, k=config.k, rivals=config.rivals, seed_key=key)

    short = run.config.sample.sampling(config.critique_tokens)
    critiques = run_units(run, round_, Stage.CRITIQUE, disputed, critique, run.memory.current, short)
    criticised = by_prompt(critiques)

    def revision(batch: Sequence[Prompt]) -> list[Request]:
        written = [c for p in batch for c in criticised.get(p.id, ())]
        return plan_revisions(batch, written, groups, seed_key=key)

    run_units(run, round_, Stage.REVISE, disputed, revision, run.memory.current)
