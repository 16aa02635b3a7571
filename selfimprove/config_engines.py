"""The settings of the engines, and what all sections are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """Base class of the sections: frozen; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, serialize_by_alias=True)


class ServerConfig(Section):
    """Generation by an OpenAI-compatible server (engine server); its API key is read from SELFIMPROVE_SERVER_KEY."""

    url: str = Field("http://127.0.0.1:8000", description="address of the server, without /v1")
    model: str | None = Field(None, description="served name of the base model; unset: the first that the server lists")
    command: str | None = Field(
        None,
        description="command that starts a server on this machine; it runs while responses are generated and is "
        "stopped for training; {model}, {host}, {port} and {rank} are replaced",
    )
    concurrency: Positive = Field(64, description="concurrent requests; one request asks for all samples of a prompt")
    timeout: float = Field(600.0, gt=0, description="maximum time of a request, in seconds")
    patience: float = Field(600.0, ge=0, description="maximum time of retries of a failing request, in seconds")


class RayConfig(Section):
    """Generation and training on a Ray cluster (engine ray)."""

    address: str | None = Field(None, description="address of the cluster; unset: start one on this machine")
    actors: Positive = Field(1, description="processes that generate, each with the model")
    trainers: Positive = Field(1, description="ranks of the training job (data parallel)")
    cpus: Positive = Field(1, description="CPU cores, and threads, per process")
    gpus: float = Field(0, ge=0, description="GPUs per process")
    shard: bool = Field(
        False, description="shard the base weights over the trainers (FSDP2), for models too large for one GPU"
    )
