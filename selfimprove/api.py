"""Public functions `improve` and `export`. The public class is `selfimprove.ResponseMemory`."""

from collections.abc import Callable
from pathlib import Path

from .answers import own_reader
from .config_file import load_config
from .exports.from_run import export_run
from .reports.summary import Summary
from .rounds import improve as improve_run
from .run.folder import home, run_folder
from .run.progress import Progress
from .run.session import open_run


def improve(
    config: str | Path,
    *overrides: str,
    resume: bool = False,
    quiet: bool = False,
    reader: Callable[[str, str], str | None] | None = None,
) -> Summary:
    """Run the rounds of a configuration file and return the summary of the run.

    `overrides` are strings `section.key=value`; `resume` continues an existing run; `quiet` switches progress off.

    `reader(text, prompt)` names the class of a response's answer, or None where it gives none; it goes before
    `vote.reader`. Equal names vote together, and a run can be resumed only with the same reader.

    Raises:
        UserError: the configuration, prompts, model, memory or engine cannot be used; the message is one line.
    """
    settings = load_config(config, overrides)
    own = None if reader is None else own_reader(reader)
    folder = home(Path(config), overrides, settings)
    with open_run(settings, resume=resume, folder=folder, progress=Progress(quiet), own=own) as run:
        return improve_run(run)


def export(
    run: str | Path,
    out: str | Path,
    *,
    round_: int | None = None,
    form: str = "merged",
    weights: str = "f16",
    dtype: str | None = None,
) -> str:
    """Write a run's current policy, or that of `round_`, to the new folder `out`; return the result of the checks.

    `form` is merged, adapter, gguf or ollama; `weights`, the type of the matrices in a GGUF file, is f16 or q8_0;
    `dtype` is that of a merged folder: float32, bfloat16 or float16, None for the base model's own.

    Raises:
        UserError: `out` exists, the run or round does not, or the written model does not match the policy.
    """
    return export_run(run_folder(run), Path(out), round_=round_, form=form, weights=weights, dtype=dtype)
