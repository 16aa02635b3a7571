"""The ledger adds up what each operator cost and brought."""

from selfimprove.memory.operators import OperatorLedger, ledger
from selfimprove.outcomes import Judgement, Reason, Tally, Verdict
from selfimprove.types import Finish, Origin, Response


def response(id_, prompt_id, origin, new_tokens):
    return Response(id_, prompt_id, 1, origin, "u", 0, "text", Finish.STOP, 0, "base", 5, new_tokens, ())


def test_cost_and_yield_of_each_operator():
    responses = [
        response(1, "p", Origin.SAMPLE, 3),
        response(2, "q", Origin.SAMPLE, 4),
        response(3, "p", Origin.RECALL, 5),
        response(4, "q", Origin.CRITIQUE, 20),
        response(5, "q", Origin.REVISE, 6),
    ]
    judgements = {i: Judgement(i, answer, 1, 0.5) for i, answer in {1: "a", 2: "b", 3: "a", 5: None}.items()}
    before = {"p": Tally("p", "b", 1, 1, 1, 1, 0), "q": Tally("q", "b", 1, 1, 1, 1, 0)}
    after = {"p": Tally("p", "a", 1, 1, 2, 2, 0), "q": Tally("q", "b", 1, 1, 1, 1, 1)}
    verdicts = [Verdict(1, Reason.DUPLICATE), Verdict(2, Reason.KEPT), Verdict(3, Reason.KEPT)]
    assert ledger(responses, judgements, before, after, verdicts) == {
        Origin.SAMPLE: OperatorLedger(7, 2, 2, 1, 1),
        Origin.RECALL: OperatorLedger(5, 1, 1, 1, 1),
        Origin.CRITIQUE: OperatorLedger(20, 1, 0, 0, 0),
        Origin.REVISE: OperatorLedger(6, 1, 0, 0, 0),
    }
