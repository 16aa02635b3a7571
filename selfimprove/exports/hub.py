"""Upload of an export: one commit to a repository of the Hugging Face hub, private by default."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError, first_line
from ..fsio import MANIFEST

if TYPE_CHECKING:
    from huggingface_hub import HfApi


@dataclass(frozen=True, slots=True)
class Upload:
    """A repository that exists and can be written to; private unless public was allowed."""

    api: HfApi
    repo: str

    @classmethod
    def prepare(cls, repo: str, public: bool) -> Upload:
        """Create the repository unless it is there; before an export, so that it fails before minutes are spent.

        Raises:
            UserError: nobody is logged in, the hub refuses, or the repository is public and that was not asked for.
        """
        from huggingface_hub import HfApi
        from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is re-exported from httpx
            HFValidationError,
            HTTPError,
            LocalTokenNotFoundError,
        )

        api = HfApi()
        try:
            api.whoami()
            api.create_repo(repo, private=not public, exist_ok=True)
            private = api.repo_info(repo).private
        except LocalTokenNotFoundError:
            raise UserError("nobody is logged in to the hub; run: hf auth login") from None
        except (OSError, HTTPError, HFValidationError) as error:
            raise UserError(f"cannot push to {repo!r}: {first_line(error)}") from None
        if not private and not public:
            raise UserError(f"the repository {repo} is public; add --public to upload to it, or choose another")
        return cls(api, repo)

    def send(self, folder: Path) -> str:
        """Upload a folder as one commit and return what to tell the user.

        Raises:
            UserError: the hub refuses, or cannot be reached; the folder stays as it is.
        """
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # as above

        try:
            commit = self.api.upload_folder(
                repo_id=self.repo,
                folder_path=folder,
                ignore_patterns=[MANIFEST],
                commit_message="Export by selfimprove",
            )
        except (OSError, HTTPError) as error:
            raise UserError(f"{folder} is written, but not uploaded to {self.repo}: {first_line(error)}") from None
        return f"uploaded to {commit.repo_url}"
