"""Units, currencies, months and scale words: what a number can be followed by and still be the same amount."""

import re
from fractions import Fraction

_METRIC = {"k": Fraction(1000), "d": Fraction(1, 10), "c": Fraction(1, 100), "m": Fraction(1, 1000)}


def _table() -> dict[str, tuple[str, Fraction]]:
    table: dict[str, tuple[str, Fraction]] = {}

    def add(base: str, factor: Fraction | int, names: str) -> None:
        for name in names.split():
            table[name] = (base, Fraction(factor))

    for base, stems in {
        "m": "meter meters metre metres mètre mètres metro metros metri",
        "g": "gram grams gramme grammes gramm gramo gramos grammo grammi grama gramas",
        "l": "liter liters litre litres litro litros litri",
    }.items():
        add(base, 1, stems)
        for prefix, factor in {"kilo": 1000, "deci": 100, "centi": 10, "zenti": 10, "milli": 1, "mili": 1}.items():
            exact = Fraction(1000) if factor == 1000 else Fraction(factor, 1000)
            add(base, exact, " ".join(prefix + stem for stem in stems.split()))
    for symbol in ("m", "g", "l"):
        add(symbol, 1, symbol)
        for prefix, size in _METRIC.items():
            add(symbol, size, prefix + symbol)
    add("l", 1, "L")
    add("l", Fraction(1, 1000), "mL")
    add("g", 1000, "kilo kilos kilogramos chilogrammi kilograms")
    add("g", 1_000_000, "tonne tonnes Tonnen tonnen")
    add("m", 1000, "chilometri kilómetro kilómetros quilómetros quilômetros")
    add("s", 1, "s sec secs second seconds sekunde sekunden seconde secondes segundo segundos secondo secondi")
    add("s", 60, "min mins minute minutes minuten minuto minutos minuti")
    add("s", 3600, "h hr hrs hour hours stunde stunden heure heures hora horas ora ore uur")
    add("s", 86400, "day days tag tage tagen jour jours día días dia dias giorno giorni dagen")
    add("s", 604800, "week weeks woche wochen semaine semaines semana semanas settimana settimane")
    add("month", 1, "month months monat monate mois mes meses mese mesi")
    add("year", 1, "year years yr yrs jahr jahre ans année années año años anno anni ano anos jaar")
    add("in", 1, "in inch inches")
    add("in", 12, "ft foot feet")
    add("in", 36, "yd yard yards")
    add("in", 63360, "mi mile miles")
    add("lb", 1, "lb lbs")
    add("lb", Fraction(1, 16), "oz ounce ounces")
    add("pound", 1, "pound pounds")
    add("gal", 1, "gal gallon gallons")
    add("gal", Fraction(1, 4), "qt quart quarts")
    add("gal", Fraction(1, 8), "pint pints")
    add("deg", 1, "° degree degrees deg grad degré degrés grado grados gradi graus °C celsius")
    add("degF", 1, "°F fahrenheit")
    add("K", 1, "K kelvin")
    add("$", 1, "$ dollar dollars usd USD US$ dólares dólar bucks")
    add("€", 1, "€ euro euros eur EUR")
    add("£", 1, "£ gbp GBP")
    add("¥", 1, "¥ yen jpy JPY")
    add("yuan", 1, "yuan rmb RMB CNY")
    add("₹", 1, "₹ rupee rupees Rs Rs. INR")
    add("cent", 1, "cent cents ¢ centavos céntimos centimes")
    add("pair", 1, "pair pairs")
    add("rad", 1, "rad radian radians")
    add("V", 1, "V volt volts")
    add("W", 1, "W watt watts")
    add("W", 1000, "kW kilowatt kilowatts")
    add("N", 1, "N newton newtons")
    add("J", 1, "J joule joules")
    add("Hz", 1, "Hz hertz")
    add("mol", 1, "mol mole moles")
    add("bit", 1, "bit bits")
    add("bit", 8, "byte bytes")
    add("m/s", Fraction(5, 18), "km/h kph kmh")
    add("in/s", Fraction(63360, 3600), "mph")
    return table


UNITS = _table()
"""A unit as it is written -> (its base unit, how many of those it is)."""

MONEY = frozenset({"$", "€", "£", "¥", "yuan", "₹", "cent", "pound"})
_LENGTH, _MASS, _TIME = {"m", "in"}, {"g", "lb"}, {"s", "month", "year"}
DIMENSIONS: tuple[tuple[re.Pattern[str], frozenset[str]], ...] = (
    (re.compile(r"\b(?:how (?:far|tall|high|deep|wide)|distance|height|width|length|perimeter|radius|"
r"diameter)\b", re.I), frozenset(_LENGTH)),
    (re.compile(r"\b(?:how heavy|weighs?|weight|mass)\b", re.I), frozenset(_MASS)),
    (re.compile(r"\bhow (?:old)\b|\bage\b", re.I), frozenset({"year"})),
    (re.compile(r"\bhow long\b|\btime\b|\bduration\b", re.I), frozenset(_LENGTH | _TIME)),
    (re.compile(r"\b(?:temperature|how (?:cold|hot|warm))\b", re.I), frozenset({"deg", "degF", "K"})),
    (re.compile(r"\b(?:angle|degrees?)\b", re.I), frozenset({"deg"})),
    (
        re.compile(
            r"\b(?:costs?|price|pa(?:y|id|ys)|earn(?:s|ed)?|spen[dt]s?|money|profit|salary|worth|sells?|sold|revenue|"
            r"bill|tip|budget|savings?|saved?|dollars?|change|owes?|charged?|make|made|how much)\b", re.I),
        MONEY,
    ),
)  # fmt: skip
"""Pattern of a question, and the base units of its answer."""

_MONTH_NAMES = (
    "january jan januar janvier enero gennaio janeiro januari",
    "february feb februar février febrero febbraio fevereiro februari",
    "march mar märz mars marzo março maart",
    "april apr avril abril aprile",
    "may mai mayo maggio maio mei",
    "june jun juni juin junio giugno junho",
    "july jul juli juillet julio luglio julho",
    "august aug août agosto augustus",
    "september sep sept septembre septiembre settembre setembro",
    "october oct oktober octobre octubre ottobre outubro",
    "november nov novembre noviembre novembro",
    "december dec dezember décembre diciembre dicembre dezembro",
)
MONTHS = {name: number for number, names in enumerate(_MONTH_NAMES, start=1) for name in names.split()}

SCALES = {
    **dict.fromkeys(("hundred",), 10**2),
    **dict.fromkeys(("thousand", "tausend", "mille", "mil", "mila", "k", "千"), 10**3),
    **dict.fromkeys(("万", "萬", "만"), 10**4),
    **dict.fromkeys(("million", "millions", "millionen", "mio", "millón", "millon", "millones", "milione", "milioni",
                     "milhão", "milhões", "miljoen", "mn", "M"), 10**6),
    **dict.fromkeys(("亿", "億", "억"), 10**8),
    **dict.fromkeys(("billion", "billions", "bn", "B", "milliarde", "milliarden", "mrd", "milliard", "milliards",
                     "miliardo", "miliardi", "miljard"), 10**9),
    **dict.fromkeys(("trillion", "trillions"), 10**12),
    **dict.fromkeys(("lakh", "lakhs"), 10**5),
    **dict.fromkeys(("crore", "crores"), 10**7),
    **dict.fromkeys(("dozen", "dozens", "dutzend"), 12),
}  # fmt: skip
"""Words that multiply the number before them. (A German Billion is 10^12: see `scale`.)"""


def scale(word: str, language: str) -> int:
    """Return what a scale word multiplies by in a language."""
    folded = word if word in SCALES else word.casefold()
    if folded in ("billion", "billions", "billionen", "billón", "billones") and language in ("de", "fr", "es", "nl"):
        return 10**12
    return SCALES[folded]


def base_of(unit: str) -> tuple[str | None, Fraction]:
    """The base unit, with its power, of a unit as written, and its size; an unknown one has none."""
    words = unit.split()
    power = ""
    if words and words[0].casefold().rstrip(".") in ("square", "sq"):
        power, words = "2", words[1:]
    elif words and words[0].casefold().rstrip(".") in ("cubic", "cu"):
        power, words = "3", words[1:]
    name = " ".join(words)
    name, _, raised = re.sub(r"[\s{}]", "", name).partition("^")
    power = raised or power
    if "/" not in name or name in UNITS or name.casefold() in UNITS:
        known = UNITS.get(name) or UNITS.get(name.casefold())
        if known is None:
            return None, Fraction(1)
        base, size = known
        return (f"{base}^{power}", size ** int(power)) if power else (base, size)
    return None, Fraction(1)


_PER = re.compile(r"\s?/\s?|\sper\s")


def written_unit(match: re.Match[str]) -> tuple[str | None, Fraction]:
    """The base unit of a quantity and its size in it."""
    written = match["unit"]
    if match["money"]:
        sign = re.sub(r"[\s-]", "", match["money"])
        base, size = UNITS.get(sign, ("$", Fraction(1)))
        return base, size
    if not written:
        return None, Fraction(1)
    written = re.sub(r"°\s?", "°", written)
    if written.casefold().startswith("degrees "):
        written = written.split()[1]
    if (
        written.casefold() in ("in", "a", "h", "s", "t", "m", "k", "n", "j", "v", "w", "mes", "ore", "min")
        and written not in UNITS
        and written.lower() not in UNITS
    ):
        return None, Fraction(1)
    if written in UNITS or (written.casefold() in UNITS and len(written) > 1):
        return UNITS.get(written) or UNITS[written.casefold()]
    parts = _PER.split(written)
    if len(parts) == 2:
        (top, size), (below, size2) = base_of(parts[0]), base_of(parts[1])
        if top and below:
            return f"{top}/{below}", size / size2
        return written, Fraction(1)
    return base_of(written) if base_of(written)[0] else (written, Fraction(1))
