"""Metrics of a base and of a healthy round, for tests of the guard."""

from dataclasses import replace

from selfimprove.evaluation.families import FamilyMetrics
from selfimprove.evaluation.metrics import Health

BASE = Health(
    agreement=0.5,
    concentration=0.1,
    mean_tokens=10.0,
    truncation=0.2,
    parse_rate=0.9,
    kl=None,
    base_majority_share=0.5,
    finished_tokens=8.0,
    question_echo=0.1,
    families=(FamilyMetrics("how much is", 10, 0.5, "4", 0.1, 1.0, base_share=0.6),),
)
HEALTHY = replace(
    BASE,
    agreement=0.65,
    base_majority_share=0.6,
    concentration=0.12,
    mean_tokens=7.0,
    kl=0.4,
    question_echo=0.15,
    family_rise=0.05,
    family_fall=0.0,
    finished_tokens=6.5,
)
