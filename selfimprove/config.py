"""The one strict configuration tree: what each setting means, its default and its bounds."""

import datetime as dt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base of all sections: frozen, and unknown keys, NaN and infinity are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Section):
    """The model to improve."""

    path: str = Field("bundled:smollm2-135m", description="HF id, local folder, GGUF file, or bundled:smollm2-135m")
    revision: str | None = Field(None, description="revision of an HF id")
    commit: str | None = Field(None, description="commit of an HF id; recorded when the run begins, and kept")
    date: dt.date | None = Field(
        None, description="date that the chat template renders as today's; recorded when the run begins, and kept"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 where the device computes it natively, else float32"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    threads: Count = Field(0, description="CPU threads; 0: one per core. Part of what makes results reproducible")


class PromptsConfig(Section):
    """The prompts to learn from, and the share of them held out."""

    path: str = Field(description="JSONL, plain text (one prompt a line), - for stdin, or hf:DATASET_ID")
    split: str = Field("train", description="split of an HF dataset")
    column: str | None = Field(None, description="column that holds the prompt; found by itself when unset")
    heldout: Share = Field(0.3, description="share of the prompts held out, by hash")
    limit: Count = Field(0, description="use at most this many prompts; 0: all")
    audit: str | None = Field(None, description="answers to held-out prompts; only `evaluate` opens it, only to report")
    strict: bool = Field(False, description="stop at the first malformed line instead of skipping and counting it")


class SampleConfig(Section):
    """Rollouts."""

    k: Positive = Field(8, description="responses a prompt and round")
    temperature: float = Field(0.7, ge=0, le=5, description="0: greedy")
    top_k: Count = Field(50, description="0: no cut")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus; 1: no cut")
    max_new_tokens: Positive = Field(64, description="longest answer, in tokens")
    unit_prompts: Positive = Field(64, description="prompts in one unit of work (one commit)")
    batch_size: Count = Field(0, description="rows decoded together; 0: chosen for the device")


class ExemplarConfig(Section):
    """Answer again with recalled, trusted answers to other prompts as demonstrations."""

    k: Count = Field(8, description="responses a prompt; 0 switches the operator off")
    shots: Positive = Field(3, description="demonstrations shown to each sample")
    trust: Share = Field(
        0.6, description="least support (agreement, abstentions counted against it) of a recalled answer's prompt"
    )
    below: float = Field(1.0, ge=0, le=2, description="only prompts whose support is below this; 2: all prompts")
    pool: Positive = Field(32, description="recalled answers that the draws for a unit are made from")
    diversity: Share = Field(0.7, description="MMR: 0 takes the nearest, 1 only the most different")


class ReviseConfig(Section):
    """Critique rival answers, then write a corrected one; off, because with small models it did not pay."""

    k: Count = Field(0, description="revisions a disputed prompt; 0 switches the operator off")
    rivals: Positive = Field(3, description="differing own answers in view")
    above: Share = Field(0.2, description="only prompts whose support is at least this: below it, rivals are noise")
    below: Share = Field(0.7, description="only prompts whose support is below this")
    critique_tokens: Positive = Field(48, description="longest critique, in new tokens")


class StitchConfig(Section):
    """Join steps of past responses along the best-voted path and continue from there; off, as is `revise`."""

    k: Count = Field(0, description="continuations a prompt; 0 switches the operator off")
    above: Share = Field(0.2, description="only prompts whose support is at least this: below it, no path is better")
    below: Share = Field(0.9, description="only prompts whose support is below this")
    same: Share = Field(0.95, description="cosine above which two steps are the same state")


class ProposeConfig(Section):
    """The three operators."""

    exemplar: ExemplarConfig = ExemplarConfig()
    revise: ReviseConfig = ReviseConfig()
    stitch: StitchConfig = StitchConfig()


class VoteConfig(Section):
    """Self-consistency."""

    kind: Literal["auto", "number", "choice", "short", "free"] = Field(
        "auto", description="how the final answer is read; auto: decided for each prompt"
    )
    same: Share = Field(0.85, description="cosine above which two free-text answers are one (kind free)")
    derived_cap: Share = Field(0.5, description="most that revise and stitch weigh together, per vote of the originals")
    decay: Share = Field(0.5, description="weight of the votes of the round before; 0: this round alone")
    labels: Literal["current", "base"] = Field(
        "current", description="whose answers vote; base: only those of the frozen base (as after a rejected round)"
    )
    prior: Share = Field(0.0, description="1 divides votes by the answer's frequency over other prompts")


class SelectConfig(Section):
    """Which candidates become training examples."""

    threshold: Share = Field(0.5, description="least support: agreement, abstentions counted against it")
    ceiling: Share = Field(1.0, description="prompts with more support than this teach little and are left out")
    per_prompt: Positive = Field(3, description="most survivors a prompt")
    answer_share: Share = Field(0.2, description="most of the prompts that one answer may win (numbers and free text)")
    ancestor_share: Share = Field(0.2, description="most of the survivors that one response may be an ancestor of")
    near_duplicate: Share = Field(0.98, description="cosine above which two survivors of a prompt are one")
    length_factor: float = Field(3.0, gt=1, description="drop answers longer than this times the group's median")


class TrainConfig(Section):
    """An adapter from the survivors."""

    method: Literal["sft", "preference"] = Field("sft", description="weighted NLL, or DPO + NLL on pairs (ScPO)")
    rank: Positive = Field(16, description="LoRA rank")
    alpha: Positive = Field(32, description="LoRA alpha")
    lr: float = Field(3e-4, gt=0, lt=1, description="peak learning rate of AdamW")
    epochs: Positive = Field(2, description="passes over the survivors")
    batch_tokens: Positive = Field(2048, description="tokens an optimizer step, about")
    warmup: Share = Field(0.1, description="share of the steps in which the rate rises")
    beta: float = Field(0.02, ge=0, description="weight of KL(policy || reference), per completion token, in nats")
    dpo_beta: float = Field(0.1, gt=0, description="DPO temperature (method preference)")
    clip: float = Field(1.0, gt=0, description="gradient norm")
    start: Literal["base", "current"] = Field("base", description="what each round's adapter starts from")
    accumulate: bool = Field(
        True, description="responses of earlier rounds may survive again; only where they vote: not with vote.decay 0"
    )


class EvaluateConfig(Section):
    """Held-out measurement before and after."""

    k: Positive = Field(8, description="sampled answers a held-out prompt")
    limit: Count = Field(0, description="held-out prompts to use; 0: all")


class GuardConfig(Section):
    """Label-free limits; a tripped one rejects the round, the next are more careful, a second one stops the run."""

    agreement_drop: Share = Field(0.1, description="most that held-out agreement may fall below the last kept round")
    base_majority_drop: Share = Field(0.3, description="most that greedy's agreement with the base majority may fall")
    base_share_drop: Share = Field(0.05, description="most that samples with the base majority may fall; 1: no guide")
    concentration_rise: Share = Field(0.15, description="most that the top answer's share over prompts may rise")
    parse_drop: Share = Field(0.1, description="most that the parse rate may fall below base")
    length_factor: float = Field(2.0, gt=1, description="mean length may change by this factor from base, either way")
    spread_drop: Share = Field(0.2, description="most that the answers' entropy over prompts may fall below base")
    entropy_rise: float = Field(0.3, ge=0, description="most that the entropy of a prompt's answers may rise, in nats")
    unique_factor: float = Field(1.5, gt=1, description="different answers a prompt may rise by this factor")
    diversity_factor: float = Field(4.0, gt=1, description="distinct bigrams and dispersion may fall by this factor")
    truncation_rise: Share = Field(0.2, description="most that the share of truncated samples may rise")
    repetition_rise: Share = Field(0.1, description="most that the share of repeated 4-grams may rise")
    kl: float = Field(3.0, gt=0, description="most KL to base on fixed completions, in nats a token")
    human_nll_rise: float = Field(1.0, gt=0, description="most that the NLL of human text may rise, in nats a token")
    echo: Share = Field(0.5, description="most of the survivors that may descend from one response")
    trips: Positive = Field(2, description="rejected rounds after which the run stops")


class ServerConfig(Section):
    """Generation by an OpenAI-compatible server (engine server), whose key is read from SELFIMPROVE_SERVER_KEY."""

    url: str = Field("http://127.0.0.1:8000", description="address of the server, without /v1")
    model: str | None = Field(None, description="name of the base model there; the first one listed when unset")
    command: str | None = Field(
        None,
        description="starts a server here while it generates and ends it while this process trains; "
        "{model}, {host}, {port} and {rank} are filled in",
    )
    concurrency: Positive = Field(64, description="requests in flight; one request holds all samples of a prompt")
    timeout: float = Field(600.0, gt=0, description="seconds that one answer may take")
    patience: float = Field(600.0, ge=0, description="seconds of failures after which a request is given up")


class RayConfig(Section):
    """Generation and training on a Ray cluster (engine ray)."""

    address: str | None = Field(None, description="the cluster to join; unset: one of its own on this machine")
    actors: Positive = Field(1, description="processes that hold the model and generate")
    trainers: Positive = Field(1, description="processes that share each training step")
    cpus: Positive = Field(1, description="CPU cores, and threads, of each of these processes")
    gpus: float = Field(0, ge=0, description="GPUs of each of these processes")
    shard: bool = Field(
        False, description="trainers share the base weights too (FSDP2): for models that leave a GPU no room to train"
    )


class RunConfig(Section):
    """Everything that decides a run."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$", description="run folder under runs/")
    seed: int = Field(0, description="every random number of the run derives from it")
    rounds: Positive = Field(2, description="improvement rounds")
    engine: Literal["local", "server", "ray"] = Field("local", description="where generation and training happen")
    embedder: str = Field("bundled:minilm", description="sentence-transformers id or folder, or bundled:minilm")
    report_to: Literal["none", "trackio", "tensorboard", "wandb"] = Field(
        "none", description="experiment tracker that gets each round's figures; metrics.jsonl is always written"
    )
    model: ModelConfig = ModelConfig()
    prompts: PromptsConfig
    sample: SampleConfig = SampleConfig()
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
        if self.sample.k > 1 and self.sample.temperature == 0:
            faults.append(
                f"sample.temperature is 0 with sample.k {self.sample.k}: all samples would be equal; set k to 1 "
                "or a temperature such as 0.7"
            )
        if faults:
            raise ValueError("; ".join(faults))
        return self
