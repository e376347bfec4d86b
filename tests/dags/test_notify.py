"""People are told by Airflow's own notifiers: of the night with its counts, of a failure once, never by a template."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from nightdesk.desk.night import note_group
from nightdesk.desk.place import night_file
from nightdesk.group import Group
from nightdesk.io.atomic import read_json, write_json
from nightdesk.io.layout import Layout
from nightdesk.readiness import tonight
from nightdesk.settings import Settings
from nightdesk.steps import report
from nightdesk_airflow.notify import tell_failure, tell_night

NIGHT = date(2026, 11, 20)
EVIL = "{{ 7 * 7 }} <img src=https://evil.example/x.png> ![x](https://evil.example/y.png) <!channel> @here \u202e"


class Post:
    """What the notifiers sent, instead of a mail server and a chat."""

    def __init__(self) -> None:
        self.mails: list[dict[str, Any]] = []
        self.posts: list[dict[str, Any]] = []
        self.refuses: set[str] = set()


@pytest.fixture
def post(monkeypatch: pytest.MonkeyPatch) -> Post:
    from airflow.providers.http.notifications import http
    from airflow.providers.smtp.notifications import smtp

    kept = Post()

    class Mail:
        from_email = "nightdesk@example.org"

        def __init__(self, **kwargs: Any) -> None:
            self.connection = kwargs["smtp_conn_id"]

        def __enter__(self) -> Mail:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def send_email_smtp(self, **kwargs: Any) -> None:
            if "mail" in kept.refuses:
                raise ConnectionError("no mail server")
            kept.mails.append(kwargs)

    class Chat:
        def __init__(self, **kwargs: Any) -> None:
            self.kwargs = kwargs

        def run(self, **kwargs: Any) -> Any:
            if "webhook" in kept.refuses:
                raise ConnectionError("no chat")
            kept.posts.append(self.kwargs | kwargs)
            return type("Answer", (), {"status_code": 200, "url": "x"})()

    monkeypatch.setattr(smtp, "SmtpHook", Mail)
    monkeypatch.setattr(http, "HttpHook", Chat)
    return kept


def observatory(root: Path, **notify: Any) -> Settings:
    tables = {"mail_to": ["a@example.org"], "webhook_connection": "chat", "webhook_path": "services/X"} | notify
    return Settings.model_validate({"data": {"root": root}, "notify": tables})


def test_an_empty_night_is_told_with_the_reason(tmp_path: Path, post: Post) -> None:
    settings = observatory(tmp_path)
    report.run(settings, NIGHT)
    assert tell_night(settings, NIGHT, {}) == "Told by mail and webhook."  # type: ignore[arg-type]
    mail, chat = post.mails[0], post.posts[0]
    assert mail["subject"] == "La Palma, night of 2026-11-20: 0 raw, 0 of 0 groups reduced, 0 red"
    assert mail["to"] == ["a@example.org"]
    assert mail["files"] == [str(tmp_path / "processed" / "reports" / "2026-11-20.html")]
    assert "No raw files" in mail["html_content"]
    assert "is not there" in chat["data"]
    assert (chat["http_conn_id"], chat["endpoint"], chat["method"]) == ("chat", "services/X", "POST")


def test_counts_and_what_needs_a_hand_are_in_the_message_and_no_template_is_filled_in(
    tmp_path: Path, post: Post
) -> None:
    settings = observatory(tmp_path)
    report.run(settings, NIGHT)
    night = read_json(night_file(settings, NIGHT))
    for number, state in enumerate(("done", "partial", "failed", "waiting")):
        night["groups"][f"g{number}"] = {"key": f"2026-11-20/T{number}/R", "state": state, "reason": EVIL}
    night["raws"] = {"used": 7, "lost": 2, "rejected": 1}
    write_json(night_file(settings, NIGHT), night)
    tell_night(settings, NIGHT, {})  # type: ignore[arg-type]
    assert post.mails[0]["subject"].endswith("10 raw, 2 of 4 groups reduced, 2 red, 1 waiting")
    chat = post.posts[0]["data"]
    assert "{{ 7 * 7 }}" in chat
    assert "49" not in chat
    assert "T1" in chat
    assert "T0" not in chat
    assert "\u202e" not in chat
    assert_harmless(json.loads(chat)["text"])


def assert_harmless(text: str) -> None:
    """Nothing in it is a picture, a link or a call to any chat that we know of."""
    assert not re.search(r"[<>`@]|\]\(|://", text)


def test_who_is_not_named_is_not_told(tmp_path: Path, post: Post) -> None:
    settings = observatory(tmp_path, mail_to=[], webhook_connection=None)
    report.run(settings, NIGHT)
    assert "Nobody" in tell_night(settings, NIGHT, {})  # type: ignore[arg-type]
    assert post.mails == post.posts == []


def test_when_one_way_fails_the_other_is_tried_and_a_retry_repeats_only_the_failed(tmp_path: Path, post: Post) -> None:
    settings = observatory(tmp_path)
    report.run(settings, NIGHT)
    post.refuses = {"mail"}
    with pytest.raises(ConnectionError, match="no mail server"):
        tell_night(settings, NIGHT, {})  # type: ignore[arg-type]
    assert (len(post.mails), len(post.posts)) == (0, 1)
    post.refuses = set()
    tell_night(settings, NIGHT, {})  # type: ignore[arg-type]
    tell_night(settings, NIGHT, {})  # type: ignore[arg-type]
    assert (len(post.mails), len(post.posts)) == (1, 1)


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Settings, Group, dict[str, Any]]:
    config = tmp_path / "observatory.toml"
    config.write_text('[data]\nroot = "data"\n[notify]\nmail_to = ["a@example.org"]\nwebhook_connection = "chat"\n')
    monkeypatch.setenv("NIGHTDESK_CONFIG", str(config))
    monkeypatch.delenv("NIGHTDESK_DATA", raising=False)
    settings = Settings.model_validate({"data": {"root": tmp_path / "data"}})
    group = Group(tonight(settings), "M13", "R")
    return settings, group, {"params": group.params | {"instrument": None}}


def _fail(settings: Settings, group: Group, reason: str, state: str = "failed") -> None:
    told = {"state": state, "quality": None, "stack": None, "raws": [], "inputs": [], "written": ""}
    values = {"schema": 1, "group": {"key": group.key}, "reason": reason, "settings": None, "code": "1"} | told
    write_json(Layout(settings, group).manifest, values)
    note_group(settings, group)


def test_a_failure_is_told_once_and_another_one_again(
    failed: tuple[Settings, Group, dict[str, Any]], post: Post
) -> None:
    settings, group, context = failed
    _fail(settings, group, f"frame r1 is bad {EVIL}")
    for _ in range(3):
        tell_failure(context)  # type: ignore[arg-type]
    assert len(post.mails) == 1
    assert post.mails[0]["subject"] == f"La Palma: {group.key} needs a hand"
    assert "&lt;img" in post.mails[0]["html_content"]
    assert "<img" not in post.mails[0]["html_content"]
    assert_harmless(json.loads(post.posts[0]["data"])["text"].rpartition("\n")[0])
    _fail(settings, group, "frame r2 is bad")
    tell_failure(context)  # type: ignore[arg-type]
    assert len(post.mails) == 2


def test_a_mended_group_that_fails_again_is_told_again(
    failed: tuple[Settings, Group, dict[str, Any]], post: Post
) -> None:
    settings, group, context = failed
    for state in ("failed", "done", "partial"):
        _fail(settings, group, "frame r1 is bad", state)
        if state != "done":
            tell_failure(context)  # type: ignore[arg-type]
    assert len(post.mails) == len(post.posts) == 2


def test_of_an_archived_group_nobody_is_told(failed: tuple[Settings, Group, dict[str, Any]], post: Post) -> None:
    settings, group, _ = failed
    for days, told in ((2, 1), (3, 1)):  # the watcher looks at three nights
        old = Group(group.night - timedelta(days=days), "M13", "R")
        _fail(settings, old, "frame r1 is bad")
        tell_failure({"params": old.params | {"instrument": None}})  # type: ignore[arg-type, typeddict-unknown-key]
        assert len(post.mails) == told


@pytest.mark.parametrize(
    ("base", "link"),
    [
        ("https://sky.example/airflow/", "https://sky.example/airflow/dags/reduce_group/runs/{run}"),
        ("", "Run {run} of reduce_group"),
    ],
)
def test_the_run_is_named_by_a_link_that_works_or_by_its_name(
    failed: tuple[Settings, Group, dict[str, Any]], post: Post, monkeypatch: pytest.MonkeyPatch, base: str, link: str
) -> None:
    settings, group, context = failed
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    _fail(settings, group, "frame r1 is bad")
    tell_failure(context)  # type: ignore[arg-type]
    assert json.loads(post.posts[0]["data"])["text"].splitlines()[-1] == link.format(run=group.run_id)
    assert link.format(run=group.run_id) in post.mails[0]["html_content"]
