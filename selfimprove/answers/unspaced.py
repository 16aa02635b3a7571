"""Short answers in Chinese, Japanese and Korean, whose words are not parted by spaces or carry their particles."""

import re

from . import text as wording

CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
ANSWER = re.compile(
    r"^\s*(?:(?:因此|所以|故)[,、]?)?(?:(?:正[确確]|最[终終])的?)?(?:答案|答え|正解)(?:[应應][该該]?)?[是为為は]?\s*:?\s*(?=\S)"
)
"""The lead of an answer: "the answer is", "answer:"."""
_CJK_LEAD = re.compile(r"是|为|為|叫做|叫|在|：|:|は|が|、|，|,")
_CJK_END = re.compile(r"(?:でございます|です|でした|である|だ|になります|ます|哦|呢|啊|的|市)?[\s。.!！]*$")
KOREAN = re.compile(r"[\uac00-\ud7af]")
_KOREAN_END = re.compile(r"(?:입니다|이에요|예요|이다|였습니다|이었습니다)$")


def chinese_japanese(cleaned: str, question: str) -> str | None:
    """Return the answer of a sentence without spaces: what follows the particle behind the question's own."""
    sentence = ANSWER.sub("", cleaned.split(". ")[0].strip().rstrip(".。！!"))
    best = sentence
    for match in _CJK_LEAD.finditer(sentence):
        before, after = sentence[: match.start()], sentence[match.end() :]
        if before and after and sum(char in question for char in before) >= 0.6 * len(before):
            best = after
            break
    best = _CJK_END.sub("", best) if best != sentence or len(best) > 4 else best
    return wording.fold(best) or None


def korean(cleaned: str, question: str) -> str | None:
    """Return the words of a Korean sentence that its question does not hold, without the copula."""
    asked = set(wording.fold(question).split())
    found = [_KOREAN_END.sub("", word) for word in wording.fold(cleaned.split(". ")[0]).split() if word not in asked]
    return " ".join(word for word in found if word) or wording.fold(cleaned) or None
