"""The configuration of a run: all settings with description, default and bounds."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from .config_engines import Count, Positive, RayConfig, Section, ServerConfig, Share
from .types import Sampling


class TemplateConfig(Section):
    """Arguments of the chat template, and the tags of reasoning."""

    arguments: dict[str, bool | int | float | str] = Field(
        {}, description="arguments of the chat template, such as {enable_thinking: false}"
    )
    thinking: tuple[tuple[str, str], ...] | None = Field(
        None,
        description="[[open, close], ...] tags of reasoning, which is not part of the answer; unset: known tags",
    )


class ModelConfig(Section):
    """The base model."""

    path: str = Field("bundled:smollm2-135m", description="HF id, local folder, GGUF file, or bundled:smollm2-135m")
    revision: str | None = Field(None, description="revision of an HF id")
    commit: str | None = Field(
        None, description="commit of an HF id; unset: the present one, recorded at the start of the run"
    )
    date: dt.date | None = Field(
        None, description="current date in the chat template; unset: today, recorded at the start of the run"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device computes it natively, else float32"
    )
    quantize: Literal["none", "4bit", "8bit"] = Field(
        "none", description="quantization of the base weights by bitsandbytes (QLoRA); 4bit: NF4"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: Count = Field(
        0, description="CPU threads; 0: one per core. Results are reproducible for equal numbers of threads"
    )
    template: TemplateConfig = TemplateConfig()


class PromptsConfig(Section):
    """The prompts, the held-out fraction of them, and the audit file."""

    path: str = Field(
        description="JSON lines, JSON array, CSV, TSV, Parquet or text (one prompt per line), also .gz; - for stdin; "
        "or hf:DATASET_ID[:CONFIG]"
    )
    split: str = Field("train", description="split of an HF dataset")
    column: str | None = Field(None, description="column of the prompt; unset: known columns are found and joined")
    columns: tuple[str, ...] | dict[str, str] | None = Field(
        None,
        description="columns of the prompt, joined in this order: [instruction, input]; or a map of standard names to "
        "columns, joined as for these: {question: problem, context: passage, choices: options}",
    )
    template: str | None = Field(
        None, description="prompt text with columns in braces: 'Translate into {language}: {text}'"
    )
    heldout: Share = Field(0.3, description="fraction of the prompts that is held out, by hash")
    limit: Count = Field(0, description="maximum number of prompts; 0: all")
    audit: str | None = Field(
        None,
        description="answers to held-out prompts, for reports only: a file or hf:ID[:CONFIG]",
    )
    audit_split: str | None = Field(None, description="split of the audit's HF dataset; unset: prompts.split")
    audit_column: str | None = Field(None, description="column of the audit with the answers; unset: found by its name")
    strict: bool = Field(False, description="a malformed line is an error; otherwise it is skipped and counted")

    @field_validator("template", mode="before")
    @classmethod
    def _quoted(cls, value: object) -> object:
        if isinstance(value, dict):
            raise ValueError(
                "YAML reads braces as a mapping; quote it, on a command line \"prompts.template='{a} {b}'\""
            )
        return value

    @field_validator("columns", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        names = [*value, *value.values()] if isinstance(value, dict) else value
        if value is not None and (not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names)):
            raise ValueError("expected a list such as [instruction, input] or a mapping such as {question: problem}")
        return value


class SampleConfig(Section):
    """Sampling of responses from the current policy."""

    k: Positive = Field(8, description="responses per prompt and round")
    temperature: float = Field(0.7, ge=0, le=5, description="sampling temperature; 0: greedy decoding")
    top_k: Count = Field(50, description="sample from the k most likely tokens; 0: off")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus sampling: probability mass to keep; 1: off")
    max_new_tokens: Positive = Field(64, description="maximum length of a response, in tokens")
    unit_prompts: Positive = Field(64, description="prompts per unit of work; each unit is one commit")
    batch_size: Count = Field(0, description="sequences decoded together; 0: chosen for the device")

    def sampling(self, max_new_tokens: int | None = None) -> Sampling:
        """Return the sampling parameters; `max_new_tokens` replaces the configured limit if it is given."""
        return Sampling(self.temperature, self.top_k, self.top_p, max_new_tokens or self.max_new_tokens)


class ExemplarConfig(Section):
    """Recall: answers with retrieved responses to other prompts as demonstrations. The key keeps its first name."""

    k: Count = Field(8, description="responses per prompt; 0: operator off")
    shots: Positive = Field(3, description="demonstrations per response")
    trust: Share = Field(
        0.6, description="minimum support of a demonstration's prompt (support: agreement, abstentions against it)"
    )
    below: float = Field(1.0, ge=0, le=2, description="only for prompts with support below this; 2: for all prompts")
    draw: Literal["distinct", "nearest", "random"] = Field(
        "distinct",
        description="draw of a response's demonstrations among the trusted responses to the nearest prompts; distinct: "
        "with different answers; nearest: without that condition; random: one draw for a unit, among all",
    )
    pool: Positive = Field(16, description="number of trusted responses per prompt that demonstrations are drawn from")
    group: Positive = Field(16, description="number of near prompts that share the draws, and so their prefix")

    agree: float = Field(
        0.85,
        ge=0,
        le=1,
        description="minimum agreement of recalled answers with samples, as a fraction of that of samples with each "
        "other; below it they do not vote in the round, and each prompt gets two at most; 0: they always vote",
    )

    @model_validator(mode="before")
    @classmethod
    def _without_mmr(cls, raw: Any) -> Any:
        """Configurations of older runs: MMR and the draw of a whole unit are gone."""
        if not isinstance(raw, Mapping):
            return raw
        kept = {key: value for key, value in raw.items() if key != "diversity"}
        return kept | ({"draw": "distinct"} if kept.get("draw") in ("mmr", "shared") else {})


class ReviseConfig(Section):
    """Revise: a new answer with differing own answers in the context. Off by default."""

    k: Count = Field(0, description="revisions per prompt; 0: operator off")
    rivals: int = Field(4, ge=2, description="own past answers in the context, drawn with their repetitions")
    verdicts: bool = Field(False, description="a verdict on each answer in the context comes before the new answer")
    shots: Count = Field(3, description="demonstrations: revisions of answers to near, trusted prompts")
    trial: Count = Field(
        32,
        description="maximum number of held-out prompts on which revisions must agree with the consensus as often as "
        "samples do, before they are used in a round; 0: always used",
    )
    above: Share = Field(0.2, description="only for prompts with at least this support; below it, answers are noise")
    below: Share = Field(0.7, description="only for prompts with support below this")
    critique_tokens: Positive = Field(24, description="maximum length of the verdicts, in tokens")


class StitchConfig(Section):
    """Stitch: continuations of the best-voted path through the steps of past responses. Off by default."""

    k: Count = Field(0, description="continuations per prompt; 0: operator off")
    steps: Positive = Field(3, description="only for prompts whose median answer has at least this number of steps")
    above: Share = Field(0.2, description="only for prompts with at least this support; below it, votes are noise")
    below: Share = Field(0.9, description="only for prompts with support below this")
    same: Share = Field(0.95, description="cosine above which two steps count as the same state")


class ProposeConfig(Section):
    """The operators that derive new responses from stored ones."""

    exemplar: ExemplarConfig = ExemplarConfig()
    revise: ReviseConfig = ReviseConfig()
    stitch: StitchConfig = StitchConfig()


class MemoryConfig(Section):
    """The response memory at the start of a run."""

    from_: str | None = Field(
        None,
        alias="from",
        description="run whose responses are copied at the start: trusted ones are demonstrations, those to prompts of "
        "this run vote as responses of earlier rounds",
    )


class VoteConfig(Section):
    """Majority vote over responses (self-consistency)."""

    kind: Literal["auto", "number", "math", "choice", "yes-no", "short", "free", "code"] = Field(
        "auto", description="kind of final answer; auto: decided for each prompt"
    )
    reader: str | None = Field(
        None, description="own answer parser, path/to/file.py:function; function(text, prompt) returns a class or None"
    )
    same: Share = Field(0.85, description="cosine above which two free-text answers count as equal (kind free)")
    derived_cap: Share = Field(0.5, description="maximum weight of all revisions and stitches, relative to the others")
    decay: Share = Field(0.5, description="weight of a vote per round of age; 0: responses of this round alone vote")
    labels: Literal["current", "base"] = Field(
        "current", description="responses that vote; base: those of the base alone (set after a rejected round)"
    )
    echo: Share = Field(
        0.75,
        description="exponent of the division of votes for answers that only repeat words of their question, by the "
        "share of such answers at the nearest prompts; 0: off",
    )
    calibration: Share = Field(
        0.0, description="exponent of the division of votes by the answer's mean share over the nearest prompts; 0: off"
    )
    steps: float = Field(
        0.0,
        ge=0,
        description="exponent of the part of a vote that counts for an answer of several steps: how often others, "
        "to any prompt, agree with its equations; 0: off",
    )
    critic: float = Field(
        0.0, ge=0, description="exponent of the weight of votes by the fraction of verdicts that call the answer right"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_prior(cls, raw: Any) -> Any:
        """Accept the setting that `calibration` replaced where it is off, as in runs made before."""
        if isinstance(raw, Mapping) and "prior" in raw:
            if raw["prior"]:
                raise ValueError(
                    "vote.prior was replaced by vote.calibration, which looks at the nearest prompts; set that"
                )
            return {key: value for key, value in raw.items() if key != "prior"}
        return raw


class SelectConfig(Section):
    """Selection of training examples among the responses."""

    threshold: Share = Field(0.5, description="minimum support of a prompt (agreement, abstentions against it)")
    ceiling: Share = Field(1.0, description="maximum support of a prompt; prompts above it teach little")
    per_prompt: Positive = Field(3, description="maximum number of survivors per prompt")
    answer_share: Share = Field(0.2, description="maximum fraction of prompts with the same answer (except choices)")
    ancestor_share: Share = Field(0.2, description="maximum fraction of survivors that descend from one response")
    near_duplicate: Share = Field(0.98, description="cosine above which two responses to a prompt are duplicates")
    length_factor: float = Field(3.0, gt=1, description="maximum length, relative to the prompt's median response")


class ReviseExamplesConfig(Section):
    """Training examples in revise format: rival answers in view, verdicts labelled by the vote, then a survivor."""

    share: float = Field(0.0, ge=0, lt=1, description="fraction of the completion tokens in revise format; 0: off")
    draws: Positive = Field(4, description="maximum number of examples per prompt, each with other answers in view")
    easy: Share = Field(
        0.5, description="minimum fraction of examples per prompt whose answers in view have the consensus as majority"
    )


class TrainConfig(Section):
    """LoRA fine-tuning on the survivors."""

    method: Literal["sft", "preference"] = Field(
        "sft", description="sft: weighted NLL; preference: DPO + NLL on pairs (ScPO)"
    )
    rank: Positive = Field(16, description="LoRA rank")
    alpha: Positive = Field(32, description="LoRA alpha")
    lr: float = Field(3e-4, gt=0, lt=1, description="peak learning rate of AdamW")
    epochs: Positive = Field(2, description="epochs over the examples")
    batch_tokens: Positive = Field(2048, description="approximate number of tokens per optimizer step")
    warmup: Share = Field(0.1, description="fraction of the steps with linear warm-up")
    beta: float = Field(
        0.02, ge=0, description="weight of KL(policy || reference), in nats per completion token (method sft)"
    )
    dpo_beta: float = Field(0.1, gt=0, description="beta of DPO (method preference)")
    clip: float = Field(1.0, gt=0, description="maximum gradient norm")
    checkpointing: bool = Field(
        False, description="gradient checkpointing: less memory for activations, a second forward pass per layer"
    )
    start: Literal["base", "current"] = Field(
        "base", description="initial adapter of a round; base: a new one, current: that of the current policy"
    )
    revise: ReviseExamplesConfig = ReviseExamplesConfig()
    accumulate: bool = Field(True, description="select among responses of earlier rounds too; needs vote.decay above 0")


class EvaluateConfig(Section):
    """Evaluation on held-out prompts."""

    k: Positive = Field(8, description="sampled responses per held-out prompt; 1: agreement cannot be measured")
    limit: Count = Field(0, description="maximum number of held-out prompts; 0: all")


ABLATED = (
    "base_majority_drop",
    "diversity_factor",
    "echo",
    "entropy_rise",
    "human_nll_rise",
    "repetition_rise",
    "spread_drop",
    "unique_factor",
)
"""Former keys of `guard`."""


class GuardConfig(Section):
    """Limits on label-free metrics. A failed one rejects the round; `trips` rejections stop the run."""

    agreement_drop: Share = Field(0.1, description="maximum fall of held-out agreement below the last kept round")
    base_share_drop: Share = Field(
        0.05, description="maximum fall of samples in the base majority below the best; 1: off"
    )
    concentration_rise: Share = Field(0.15, description="maximum rise of the top answer share")
    echo_rise: Share = Field(0.32, description="maximum rise of answers that only repeat their question; 1: off")
    parse_drop: Share = Field(0.1, description="maximum fall of the parse rate")
    length_factor: float = Field(2.0, gt=1, description="maximum factor between the lengths and the base's, either way")
    family_rise: Share = Field(0.3, description="maximum rise of a family's top answer fraction over the base")
    family_fall: Share = Field(0.25, description="maximum fall of a family's samples in the base's majority")
    base_truncation: Share = Field(
        0.3,
        description="maximum fraction of the base's samples that are truncated; above it the run stops before its "
        "first round; 1: off",
    )
    truncation_rise: Share = Field(0.2, description="maximum rise of the fraction of truncated samples")
    kl: float = Field(3.0, gt=0, description="maximum KL to the base on fixed completions, in nats a token")
    trips: Positive = Field(2, description="number of rejections that stops the run")

    @model_validator(mode="before")
    @classmethod
    def _without_ablated(cls, raw: Any) -> Any:
        """Configurations of older runs: limits on metrics that never detected a collapse first or alone are gone."""
        return {key: value for key, value in raw.items() if key not in ABLATED} if isinstance(raw, Mapping) else raw


class RunConfig(Section):
    """The configuration of a run. Together with the model and the prompts it determines the result."""

    name: str = Field(
        "run", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", description="name of the run; its folder is runs/NAME"
    )
    seed: int = Field(0, description="seed that all random numbers of the run derive from")
    rounds: Positive = Field(2, description="number of rounds")
    engine: Literal["local", "server", "ray"] = Field("local", description="engine for generation and training")
    embedder: str = Field(
        "bundled:minilm", description="embedding model: sentence-transformers id or folder, or bundled:minilm"
    )
    report_to: Literal[
        "none", "aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab", "tensorboard", "trackio", "wandb"
    ] = Field("none", description="experiment tracker for the metrics of each round; metrics.jsonl is always written")
    model: ModelConfig = ModelConfig()
    prompts: PromptsConfig
    sample: SampleConfig = SampleConfig()
    memory: MemoryConfig = MemoryConfig()
    propose: ProposeConfig = ProposeConfig()
    vote: VoteConfig = VoteConfig()
    select: SelectConfig = SelectConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    guard: GuardConfig = GuardConfig()
    server: ServerConfig = ServerConfig()
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _consistent(self) -> "RunConfig":
        faults = []
        if self.select.ceiling < self.select.threshold:
            faults.append(
                f"select.ceiling {self.select.ceiling} is below select.threshold {self.select.threshold}: "
                "nothing could survive; raise the ceiling"
            )
        for name, k in (("sample.k", self.sample.k), ("evaluate.k", self.evaluate.k)):
            if k > 1 and self.sample.temperature == 0:
                faults.append(
                    f"sample.temperature is 0 with {name} {k}: all samples would be equal; set {name} to 1 or a "
                    "temperature such as 0.7"
                )
        if faults:
            raise ValueError("; ".join(faults))
        return self
