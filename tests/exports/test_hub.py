"""Sharing is private unless asked, and fails before the work, not after it. The hub here is a fake."""

from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

from selfimprove.errors import UserError
from selfimprove.exports.hub import Upload


class FakeHub:
    """Repositories by name: whether they are private, and the files that they hold."""

    def __init__(self, public=(), token=True, broken=False, silent=False):
        self.private = dict.fromkeys(public, False)
        self.token, self.broken, self.silent, self.files = token, broken, silent, {}

    def whoami(self):
        if self.silent:
            raise HTTPError("")
        if not self.token:
            raise LocalTokenNotFoundError("no token")

    def create_repo(self, repo, *, private, exist_ok):
        assert exist_ok
        if repo.startswith("else/"):
            raise OSError("403 Forbidden: not your namespace\nmore")
        self.private.setdefault(repo, private)

    def repo_info(self, repo):
        return SimpleNamespace(private=self.private[repo])

    def upload_folder(self, *, repo_id, folder_path, ignore_patterns, commit_message):
        if self.broken:
            raise HTTPError("the line is dead")
        self.files[repo_id] = {p.name for p in folder_path.iterdir()} - set(ignore_patterns)
        return SimpleNamespace(repo_url=f"https://hub.example/{repo_id}")


@pytest.fixture
def hub(monkeypatch):
    def install(**options):
        fake = FakeHub(**options)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: fake)
        return fake

    return install


@pytest.fixture
def folder(tmp_path):
    for name in ("model.safetensors", "README.md", "MANIFEST.json"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_a_new_repository_is_private_and_gets_the_whole_folder(hub, folder):
    fake = hub()
    told = Upload.prepare("me/mine", public=False).send(folder)
    assert fake.private == {"me/mine": True}
    assert fake.files == {"me/mine": {"model.safetensors", "README.md"}}
    assert told == "uploaded to https://hub.example/me/mine"


def test_public_only_when_asked(hub):
    fake = hub(public=["me/open"])
    with pytest.raises(UserError, match="me/open is public; add --public"):
        Upload.prepare("me/open", public=False)
    Upload.prepare("me/open", public=True)
    Upload.prepare("me/new", public=True)
    assert fake.private["me/new"] is False
    assert fake.files == {}


def test_what_the_hub_refuses_is_one_line(hub, folder):
    hub(token=False)
    with pytest.raises(UserError, match="hf auth login"):
        Upload.prepare("me/mine", public=False)
    hub()
    with pytest.raises(UserError, match=r"cannot push to 'else/mine': 403 Forbidden: not your namespace$"):
        Upload.prepare("else/mine", public=False)
    hub(silent=True)
    with pytest.raises(UserError, match=r"cannot push to 'me/mine': HTTPError$"):
        Upload.prepare("me/mine", public=False)
    hub(broken=True)
    with pytest.raises(UserError, match="is written, but not uploaded to me/mine: the line is dead"):
        Upload.prepare("me/mine", public=False).send(folder)


def test_no_repository_is_made_for_a_run_that_is_not_there(hub, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from selfimprove.cli.main import main

    fake = hub()
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["export", "tinny", "out", "--push", "me/mine"]).exit_code == 2
    assert fake.private == {}


def test_public_without_push_is_told_before_anything_is_written(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from selfimprove.cli.main import main

    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["export", "tiny", "out", "--public"])
    assert result.exit_code == 2
    assert "add --push OWNER/NAME" in result.stderr
    assert not any(tmp_path.iterdir())


def test_a_push_that_cannot_be_is_known_before_the_export(hub, undisturbed, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from selfimprove.cli.main import main

    hub(token=False)
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["export", str(undisturbed[0]), "out", "--push", "me/mine"])
    assert result.exit_code == 2
    assert "hf auth login" in result.stderr
    assert not any(tmp_path.iterdir())


def test_no_repository_is_made_for_what_cannot_be_exported(hub, undisturbed, tmp_path, monkeypatch):
    from click.testing import CliRunner

    from selfimprove.cli.main import main

    fake = hub()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for words, why in ((["there"], "there exists already"), (["out", "--round", "7"], "there is no adapter")):
        result = CliRunner().invoke(main, ["export", str(undisturbed[0]), *words, "--push", "me/mine"])
        assert (result.exit_code, why in result.stderr) == (2, True), result.stderr
    assert fake.private == {}
