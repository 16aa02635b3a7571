"""Reading the answers of a vote: a prompt's kind once a round, a response's class once for each kind.

What an earlier vote read is taken from its judgements. Only responses that no vote has read yet are read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..answers import Kind
from ..run.session import Run
from ..types import Poll, Prompt, Response


@dataclass(frozen=True, slots=True)
class Readings:
    """Readings of one vote: prompt id -> kind of answer, response id -> class (None: no readable answer)."""

    kinds: dict[str, Kind]
    answers: dict[int, str | None]


def read_once(
    run: Run,
    round_: int,
    poll: Poll,
    prompts: Sequence[Prompt],
    groups: Mapping[str, Sequence[Response]],
    *,
    reuse: bool = True,
) -> Readings:
    """Return kinds and classes of all responses in `groups` (by prompt id) to `prompts` for one vote of a round.

    The first vote of a round decides each prompt's kind, and reuses the classes of the round before where the kind is
    the same; later votes read only the responses written since. Without `reuse` all are read again: the judgements hold
    the classes that a bench's labels made up.
    """
    kinds: dict[str, Kind] = {}
    answers: dict[int, str | None] = {}
    last = {Poll.SAMPLED: Poll.FINAL, Poll.PAST: Poll.PAST}.get(poll)
    before = (round_, Poll(poll - 1)) if last is None else (round_ - 1, last)
    earlier_kinds = run.memory.kinds(*before)
    judged, restored = run.memory.judgements(*before), run.memory.restored()
    # Without `vote.decay` an ordinary vote of the round before held that round's responses alone.
    held_from = before[0] if last is not None and not run.config.vote.decay else 0
    held_to = before[0] + (last is not None)
    for prompt in prompts:
        group = groups.get(prompt.id, ())
        if not group:
            continue
        earlier = earlier_kinds.get(prompt.id)
        kind = Kind(earlier) if last is None and earlier else answer_kind(run, prompt, [r.text for r in group])
        kinds[prompt.id] = kind
        known: dict[int, str | None] = {}
        if reuse and earlier == kind:
            # Responses that took part without a judgement abstained then; those brought in join a round later.
            known = {
                r.id: judged[r.id].answer if r.id in judged else None
                for r in group
                if r.id in judged or (held_from <= r.round + r.brought_in < held_to and r.id not in restored)
            }
        answers |= known
        new = [r for r in group if r.id not in known]
        answers |= dict(zip([r.id for r in new], _read(run, prompt, kind, new, group, known), strict=True))
    return Readings(kinds, answers)


def _read(
    run: Run,
    prompt: Prompt,
    kind: Kind,
    new: Sequence[Response],
    group: Sequence[Response],
    known: Mapping[int, str | None],
) -> list[str | None]:
    """Return the classes of `new` responses; free text joins the classes of those known already."""
    founders: dict[str, str] = {}
    if kind is Kind.FREE:
        for response in group:
            answer = known.get(response.id)
            if answer is not None:
                founders.setdefault(answer, response.text)
    texts = [*founders.values(), *(r.text for r in new)]
    return read_texts(run, prompt, kind, texts)[len(founders) :] if new else []


def read_texts(run: Run, prompt: Prompt, kind: Kind, texts: Sequence[str]) -> list[str | None]:
    """Return the answer class of each text, read as answers of this kind to this prompt."""
    return run.reader.classes(prompt.text, texts, kind)


def read_answers(run: Run, prompt: Prompt, group: Sequence[Response]) -> list[str | None]:
    """Return the answer class of each response of a group that is read by itself."""
    texts = [r.text for r in group]
    return read_texts(run, prompt, answer_kind(run, prompt, texts), texts)


def answer_kind(run: Run, prompt: Prompt, texts: Sequence[str]) -> Kind:
    """Return how the final answers to a prompt are read: as configured, or by looking at prompt and answers."""
    return run.reader.kind(prompt.text, texts)
