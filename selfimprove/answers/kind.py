"""Kind of answer to a prompt: from the question, however it is worded, and from the group of responses."""

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from statistics import median

from . import choice, number, quantity
from . import text as wording
from .final import PLAIN, Thinking, final_text, marked


class Kind(StrEnum):
    """Kind of a final answer, which decides how it is read."""

    NUMBER = "number"
    MATH = "math"
    CHOICE = "choice"
    YES_NO = "yes-no"
    SHORT = "short"
    FREE = "free"
    CODE = "code"


_POLITE = re.compile(
    r"^\W*(?:(?:hi|hello|hey|please|excuse me|quick question|hallo|bonjour|hola|ciao)[\s,.!:-]+)*"
    r"(?:(?:can|could|would|will|may|might)\s+"
    r"(?:you|anyone|someone|anybody|(?:i|we)(?= (?:ask|know|have|get|find)))\s+(?:please\s+|"
    r"kindly\s+|perhaps\s+|possibly\s+|maybe\s+|be so kind (?:as )?to\s+|be able to\s+|"
    r"like to\s+|mind\s+|ask(?: you)?\s+|have\s+|get\s+)*"
    r"|do you (?:happen to )?(?:know|remember|recall|think you (?:can|could))\s+|(?:i(?:'d|"
    r" would) (?:like|love)|i want|i need|i(?:'m| am) trying)\s+(?:you\s+)?(?:to\s+)?|"
    r"i(?:'m| am| was) (?:wondering|curious|interested)\s+(?:about\s+|in\s+)?|i wonder\s+|"
    r"please\s+|kindly\s+|any (?:idea|chance you know)\s+|(?:would|do) you mind\s+|help "
    r"me (?:to )?"
    r"|(?:kannst|könntest|können|könnten|würden|würdest)\s+(?:du|sie)\s+(?:mir\s+|uns\s+)?(?:bitte\s+)?(?:sagen|"
    r"verraten|erklären)?[\s,]*|(?:weißt du|wissen sie)[\s,]*|"
    r"(?:peux-tu|pouvez-vous|pourriez-vous|pourrais-tu)\s+(?:s'il (?:te|vous) pla[iî]t\s+)?(?:me\s+dire\s+)?|"
    r"(?:sais-tu|savez-vous)\s+|"
    r"¿?(?:puedes|podr[ií]as?|me puedes|puede usted)\s+(?:por favor\s+)?(?:decirme\s+|"
    r"decir\s+)?|¿?(?:sabes|sabe usted)\s+|(?:puoi|potresti)\s+(?:dirmi\s+)?|(?:você\s+)?(?:pode|"
    r"poderia)\s+(?:me\s+)?(?:dizer\s+)?)*"
    r"(?:(?:me\s+)?(?:tell|telling|say|saying|inform|informing|remind|let)\s+(?:me\s+|"
    r"us\s+)?(?:know\s+)?(?:about\s+)?|give\s+me\s+(?=the\b)|(?:to\s+)?(?:know|find out|"
    r"figure out|learn|check|see)\s+)?[\s,:]*",
    re.I,
)
_WHETHER = re.compile(r"^\W*(?:if|whether|or not|ob|si|se)\s+(?=\w)", re.I)
_HOW_MANY = r"(?<!茶)[几幾](?![何乎内內率维維])"
"""The Chinese "how many", outside of words such as geometry and nearly."""
_ASKS_NUMBER = re.compile(
    r"\b(?:how (?:many|much|old|far|tall|long|heavy|high|deep|wide|fast|cold|hot|big|often)|"
    r"(?:what|which) (?:number|year|percent\w*|percentage|fraction|age|amount|price|cost|"
    r"temperature|distance|speed|score|sum|total|probability)|"
    r"what (?:time|is the (?:\w+ ){0,2}(?:ratio|probability|sum|product|difference|quotient|"
    r"remainder|average|mean|median|total|area|perimeter|volume|value|cost|price|number|"
    r"percentage|square root|cube|chance))|(?:in|at) (?:what|which) (?:year|time)|calculate|"
    r"compute|evaluate|divide|multiply|subtract|add up|"
    r"wie ?viele?|wie (?:alt|weit|hoch|lang|groß|schwer|teuer|spät)|wann|combien|quel(?:le)? "
    r"(?:âge|heure|année|nombre)|cu[aá]nt[oa]s?|qu[eé] (?:hora|año|número)|quant[oiae]s?|"
    r"che ora|quanti|quante|hoeveel|сколько|多少|几个|幾|いくつ|何人|何個|몇)\b"
    rf"|多少|{_HOW_MANY}|いくつ|何人|何個|몇"
    r"|\d\s*(?:[-+*\u00d7\u00f7/^=]|x|plus|minus|times|divided by|multiplied by|squared|percent of|% of|mod)\s*\(*\d"
    r"|(?<![\w'])(?:square root|half|double|triple|twice) of \(?\d",
    re.I,
)
_MATHS = re.compile(
    r"\\(?:frac|sqrt|begin|left|cdot|times|pi|theta|boxed|int|sum|infty|le|ge|in|alpha|"
    r"beta)|\$[^$\n]*[\\^_=<>+*/][^$\n]*\$|\b(?:solve|simplif(?:y|ied)|factor(?:ise|ize|"
    r"ed)?|expand|differentiate|integrate|derivative|integral|"
    r"polynomial|equation|inequality|interval|matrix|determinant|eigenvalues?|vectors?|"
    r"exact value|expression|domain of|range of|roots? of|function f|f\(x\)|in terms of|"
    r"solutions|limit|prove|for all real|find all|find the (?:value|number|sum|product|area|range|domain|"
    r"set|smallest|largest|least|maximum|minimum|remainder)|asymptotes?|coordinates|ordered "
    r"(?:pair|triple)s?|löse|vereinfache|résou(?:s|dre)|simplifie|resuelve|simplifica|"
    r"solution set)\b",
    re.I,
)
_ASKS_TEXT = re.compile(
    r"^\W*(?:please\s+)?(?:(?:to\s+)?(?:write(?! (?:the|this|that|it|your|down|out)\b)|writing|"
    r"describe|explain|explaining|summari[sz]e|"
    r"compose|draft|rewrite|discuss|create|generate|suggest|outline|elaborate|paraphrase|"
    r"compare|argue|imagine|brainstorm|recommend|tell (?:me |us )?(?:a|an|some|something|"
    r"more|about)|give (?:me )?(?:some|an? (?:example|overview|summary|short|brief|explanation|"
    r"description))|"
    r"schreib|beschreib|erklär|verfasse|fass\w*|écri(?:s|vez)|décri(?:s|vez)|expli(?:que|"
    r"quez)|résume|escrib[ea]|describ[ea]|explica|resume|scrivi|descrivi|spiega|escreva|"
    r"descreva|explique)\w*|why\b|how (?:do|does|did|can|could|should|would|to|come)\b|"
    r"warum|wieso|pourquoi|por qu[eé]|perch[eé])\b|^\W*(?:写|请写|描述|解释|为什么|なぜ|書いて)",
    re.I,
)
_ASKS_CODE = re.compile(
    r"\b(?:write|implement|create|give|show|complete|provide|generate|need|fix|refactor|"
    r"schreib\w*|écris|escribe)\b[^.?!\n]{0,80}\b(?:function|program|script|code|snippet|"
    r"class|method|regex|regular expression|sql|query|one-liner|command|bash|python|javascript|"
    r"html|css|algorithm|funktion|programm|fonction|función|código)\b"
    r"|^\W*(?:def|SELECT|import|class)\s",
    re.I,
)
_ASKS_YES_NO = re.compile(
    r"^\W*(?!was (?:ist|sind|war|waren|bedeutet|macht|machen|heißt|kostet|hat|haben|kann|"
    r"gibt|für|passiert)\b)(?:is|are|was|were|am|do|does|did|can|could|will|would|should|"
    r"has|have|had|must|may|isn't|aren't|wasn't|doesn't|don't|didn't|can't|won't|"
    r"ist|sind|war|waren|hat|haben|kann|können|darf|gibt es|est-ce que|est-ce qu'|es|son|"
    r"hay|puede|tiene|è|sono|é|são|tem)\b(?!.*\b(?:or|oder|ou)\b(?!\s+(?:not|no|nicht)\b))[^?]*\?\s*$",
    re.I | re.S,
)
_YES_OR_NO = re.compile(r"\byes(?:,? or |\s?/\s?)no\b|\bja oder nein\b|\boui ou non\b|\bs[ií] o no\b", re.I)
_ASKS_YES_NO_CJK = re.compile(r"(?:吗|嗎)[?？]?\s*$|(?<!\w)ли(?!\w)|ですか[?？]?\s*$")
_OPENING = " \u00bf\u00a1"
_CJK_WORD = re.compile(
    rf"什么|什麼|谁|誰|哪|多少|{_HOW_MANY}|(?<![任几幾])何|だれ|どこ|どれ|いつ|いくつ|なに|怎|为什么|なぜ"
)
_ASKING = re.compile(
    r"\b(?:what|which|who|whom|whose|where|when|why|how|was|wer|welche[rsnm]?|wo|wann|"
    r"warum|quel(?:le)?s?|qui|quoi|où|qu[eé]|qui[eé]n|cu[aá]l|d[oó]nde|c[oó]mo)\b",
    re.I,
)
_LONG = 40
"""Words: groups whose typical answer is longer are free text, unless they mark their answers."""
_SPAN = re.compile(
    r"\$\$.+?\$\$|(?<![\\\w])\$(?!\d+(?:\.\d+)?\s)[^$\n]{1,300}?\$(?!\d)|\\\(.+?\\\)|\\\[.+?\\\]|\\boxed", re.S
)
_MARKED = re.compile(r"\banswer\b|\\boxed|####|<answer>", re.I)
_LATEX_ANSWER = re.compile(
    r"\\(?:frac|sqrt|dfrac|tfrac|pi|infty|cup|begin|left|le\b|ge\b|leq|geq|in\b|pm|sin|"
    r"cos|tan|ln|log)|[a-z]\s?\^\s?[\d{(]|\\\{|^[(\[].*,.*[)\]]$|^-?\w\s?(?:[<>]|[<>]=|"
    r"=)\s?\S|\d\s?[a-z]\s?[-+]\s?\d|\bsqrt\b|[∪∈≤≥√π∞]"
)


@lru_cache(maxsize=4096)
def asked(prompt_text: str) -> tuple[str, bool]:
    """Return what a prompt asks without its politeness, and whether that was "if" or "whether" something is so.

    "Could you tell me the capital of France?" asks for the capital, not whether you could.
    """
    question = wording.question(prompt_text)
    polite = _POLITE.match(question)
    rest = question[polite.end() :] if polite else question
    if polite and polite.end() and not re.search(r"\w", rest):
        rest, polite = question, None
    requested = bool(polite and re.search(r"\w", polite[0]))
    if requested and _WHETHER.match(rest):
        return rest, True
    return rest, False


def kind_of(prompt_text: str, texts: Sequence[str], thinking: Thinking = PLAIN) -> Kind:
    """Return how answers to a prompt are to be read, from the prompt and the group of its responses.

    Options in the prompt make a choice, lettered questions a text that is compared as a whole, as code is; a question
    for yes or no, yes-no; a request for an amount, a number, or mathematics where the prompt or most responses write
    formulas; a request to write, free text or code. Where the prompt does not tell, responses most of which are
    amounts make a number, long unmarked ones free text; all else is short.
    """
    rest, whether = asked(prompt_text)
    offered = choice.options(prompt_text)
    if offered and not _YES_OR_NO.search(prompt_text):
        return Kind.YES_NO if set(offered) <= {"yes", "no"} else Kind.CHOICE
    if _ASKS_CODE.search(rest) or choice.asks_several(prompt_text):
        return Kind.CODE
    texts = [wording.bounded(final) for text in texts if (final := final_text(text, thinking)) and final.strip()]
    finals = [marked(text) or text.strip() for text in texts]
    formulas = [f for f in finals if len(f) <= 400 and _LATEX_ANSWER.search(f.strip(" $."))]
    if _asks_yes_no(prompt_text, rest, whether):
        return Kind.YES_NO
    if _MATHS.search(prompt_text) and not _ASKS_TEXT.match(rest):
        return Kind.MATH
    if quantity.asked(prompt_text).verbatim:
        return Kind.SHORT
    if _ASKS_NUMBER.search(quantity.prepare(rest)):
        return Kind.MATH if formulas else Kind.NUMBER
    if _ASKS_TEXT.match(rest):
        return Kind.FREE
    if not texts:
        return Kind.SHORT
    return _by_texts(prompt_text, texts, formulas)


def _asks_yes_no(prompt_text: str, rest: str, whether: bool) -> bool:
    if whether or _YES_OR_NO.search(prompt_text):
        return True
    question = wording.question(prompt_text)
    if _ASKS_YES_NO_CJK.search(question) and not _CJK_WORD.search(question):
        return True
    return bool(_ASKS_YES_NO.match(rest)) and rest.strip(_OPENING) == question.strip(_OPENING)


def _by_texts(prompt_text: str, texts: Sequence[str], formulas: Sequence[str]) -> Kind:
    about = quantity.asked(prompt_text)
    spans = sum(_SPAN.search(text) is not None for text in texts)
    if max(len(formulas), spans) * 2 > len(texts) and not any("`" in text for text in texts):
        return Kind.MATH
    coded = sum("```" in text or "`" in text for text in texts)
    if sum("```" in text for text in texts) * 2 > len(texts):
        return Kind.CODE
    known = number._asked_numbers(prompt_text)
    amounts = 0
    for text in texts:
        prepared = quantity.prepare(text, about.language)
        amounts += any(q.name not in known for q in quantity.scan(prepared, about))
    if amounts * 2 > len(texts) and coded * 2 <= len(texts):
        return Kind.NUMBER
    unmarked = sum(_MARKED.search(text) is None for text in texts) * 2 > len(texts)
    return Kind.FREE if unmarked and median(len(text.split()) for text in texts) > _LONG else Kind.SHORT
