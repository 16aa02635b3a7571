"""The notations of amounts: dates, times, ratios, ranges, remainders, and numbers with units."""

import re

from .units import MONTHS, SCALES, UNITS

N = (
    r"(?:\d{1,3}(?:[ ']\d{3}){1,9}(?![ ']?\d)(?:[.,]\d{1,30})?|\d{1,3}(?:,\d{2,3}){0,9},\d{3}(?:\.\d{1,30})?|"
    r"\d{1,3}(?:\.\d{3}){1,9}(?:,\d{1,30})?"
    r"|\d{1,60}(?:[.,]\d{1,60})?|\.\d{1,60})"
)
_END = r"(?![\d]|[.,]\d)"
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_SCALE = "|".join(sorted((re.escape(word) for word in SCALES if len(word) > 1 or word > "\x7f"), key=len, reverse=True))
UNIT = "|".join(sorted((re.escape(word) for word in UNITS), key=len, reverse=True))
_MONEY_SIGN = r"US\$|[$€£¥₹]|\bUSD|\bEUR|\bGBP|\bRs\.?"
_PERCENT = (
    r"%|\b(?:percent(?:age)?(?: points?)?|per cent|pct|prozent|pour ?cents?|por ciento|per cento|por cento|procent)\b"
)
_CLOCK = r"(?:a\.?\s?m\b\.?|p\.?\s?m\b\.?)"
_QUALIFIER = (
    r"\b(?:at least|at most|more than|less than|fewer than|no more than|no less than|up to|over|under|above|below|"
    r"mindestens|höchstens|mehr als|weniger als|au moins|au plus|plus de|moins de|al menos|"
    r"más de|menos de)\s+|[<>≤≥]=?\s*"
)
_PERCENT, _QUALIFIER = (
    part.replace(" ?", r"\s?").replace(" ", r"\s") for part in (_PERCENT, _QUALIFIER)
)  # verbose below
PATTERN = re.compile(
    rf"""
    (?P<date>
        \b(?P<y1>\d{{4}})(?:(?P<sep>[-/])(?P<m1>\d{{1,2}})(?P=sep)(?P<d1>\d{{1,2}})\b
        |\s?年\s?(?P<m2>\d{{1,2}})\s?月(?:\s?(?P<d2>\d{{1,2}})\s?日)?)
      | \b(?P<month3>{_MONTH})\.?\s+(?P<d3>\d{{1,2}})(?:st|nd|rd|th)?(?:,?\s+(?P<y3>\d{{3,4}}))?(?![\d:]|\s*(?:am|pm)\b)
      | \b(?P<d4>\d{{1,2}})(?:st|nd|rd|th|\.)?\s+(?:of\s+|de\s+|di\s+)?(?P<month4>{_MONTH})\b\.?
        (?:,?\s+(?:de\s+|del\s+)?(?P<y4>\d{{3,4}}))?(?!\d)
      | \b(?P<month5>{_MONTH})\.?,?\s+(?:of\s+|de\s+)?(?P<y5>\d{{4}})(?!\d)
      | \b(?P<a6>\d{{1,2}})(?P<sep6>[./])(?P<b6>\d{{1,2}})(?P=sep6)(?P<y6>\d{{4}})(?!\d)
    )
  | (?P<remainder>(?P<quotient>\d{{1,18}})\s*,?\s*(?:with\s+|and\s+|mit\s+)?(?:an?\s+|the\s+)?
      (?:remainder|rem\.?|rest|reste|resto|R|r)\s*(?:of\s+|is\s+|von\s+|de\s+|:\s*|=\s*)?(?P<left>\d{{1,18}})(?![\d.]))
  | (?P<clock>(?P<hour>\d{{1,2}})(?:(?::|(?<=\d)h|\.(?=\d\d\s?(?:uhr|{_CLOCK})))(?P<minute>\d{{2}})
      (?::(?P<second>\d{{2}}))?(?:\s?(?P<half>{_CLOCK})|\s?(?P<uhr>uhr|h)\b)?
      |\s?(?P<half2>{_CLOCK})|\s(?P<oclock>o'clock)|\s?(?P<uhr2>uhr)\b)(?![:\d]|\s*:\s*\d))
  | (?P<ratio>(?P<terms>{N}(?:\s{{0,3}}:\s{{0,3}}{N}){{1,5}})(?![\d:]))
  | (?P<range>\b(?:between\s+(?P<low1>-?{N})\s+and\s+(?P<high1>-?{N})|from\s+(?P<low2>-?{N})\s+to\s+(?P<high2>-?{N})
      |(?P<low3>(?<![-+*/^=(]){N})-(?P<high3>{N})(?!\s?[-+*/^=×)]|\d|\.\d|[a-zA-Z]){_END}))
  | (?P<qualifier>{_QUALIFIER})?
    (?:(?P<sign>[-+](?=\s?[$€£]?\s?[\d.]))\s?)?
    (?P<money>(?:{_MONEY_SIGN})\s?(?P<sign2>-)?)?
    (?:(?P<mantissa>{N})\s*(?:×|·|x|\*|⋅)\s*10\s?(?:\^|\*\*)\s?[({{]?\s?(?P<exponent>[-+]?\d{{1,4}})[)}}]?
      |(?P<mantissa2>\d{{1,20}}(?:\.\d{{1,20}})?)[eE](?P<exponent2>[-+]?\d{{1,3}})(?!\w)
      |(?P<power>\d{{1,9}})\s?(?:\^|\*\*)\s?(?:[({{]\s?(?P<pexponent>[-+]?\d{{1,4}})\s?[)}}]|(?P<pexponent2>[-+]?\d{{1,4}}))
      |(?P<whole>\d{{1,18}})(?:\s+(?:and\s+)?|-)(?P<top>\d{{1,9}})/(?P<bottom>\d{{1,9}})(?![\d/])
      |(?P<numerator>{N})\s?/\s?(?P<denominator>{N})(?!/\s?\d)
      |(?P<number>{N})
    )
    {_END}(?!\d|-[a-zA-Z]|st\b|nd\b|rd\b|th\b)
    (?:\s?(?P<percent>{_PERCENT})|\s?(?P<scale>(?:{_SCALE})(?![^\W\d_])\.?|(?-i:(?<=\d)[kMB](?![\w])))(?:\s(?:de|of)\b)?)?
    (?:[\s-]?(?P<unit>°\s?[CF]\b|degrees\s(?:celsius|fahrenheit)\b
      |(?:(?P<power2>square|cubic|sq\.?|cu\.?)\s)?(?:{UNIT})(?![^\W_])(?:\s?\^\s?[{{]?(?P<unitpower>[23])\b[}}]?)?(?:\s?(?:/|per\s)\s?(?:{UNIT})(?![^\W_]))?))?
    """,
    re.X | re.I,
)  # fmt: skip
BEFORE = re.compile(r"(?:[\w.^](?<![\u0e00-\uffff])|\d,|[a-zA-Z]-)$")
OPERAND = re.compile(r"[\d)\]%\u00b0]\s{0,3}$|(?<![^\W\d_])[^\W\d_]\s{0,3}$")
GLUED = re.compile(r"[a-zA-Z_^\u00c0-\u024f]|-[a-zA-Z]|[-+](?:$|[^\w\s(.$-])")
