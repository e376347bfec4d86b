"""Telling people: the night's report in the morning, and a group that failed, once; by Airflow's own notifiers.

Who is told is in the configuration ([notify]); the address and the password of the mail server or of the chat are an
Airflow connection. The notifiers' `notify` is called, not the notifier itself: that would take the text for a template,
and the text holds names from headers.
"""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from airflow.sdk import Context

    from nightdesk.settings import Settings


def tell_night(settings: Settings, night: date, context: Context) -> str:
    """Send the night's report to whoever is to have it, and say to whom it went."""
    from nightdesk.desk.night import counts_of, read_night
    from nightdesk.desk.place import nights_folder
    from nightdesk.desk.words import printable
    from nightdesk.io.layout import report_path

    values = read_night(settings, night)
    counts = counts_of(values)
    subject = (
        f"{settings.site.name}, night of {night}: {counts['raws']} raw, {counts['reduced']} of {counts['groups']} "
        f"groups reduced, {counts['red']} red" + (f", {counts['waiting']} waiting" if counts["waiting"] else "")
    )
    named = [
        f"{row['key']}: {printable(row['reason'])}"
        for row in values["groups"].values()
        if row["state"] in ("failed", "partial", "waiting")
    ]
    page = report_path(settings, night).with_suffix(".html")
    message = Message(
        subject,
        [subject, *([values["nothing"]] if values["nothing"] else []), *named],
        body=page.read_text(encoding="utf-8"),
        files=[str(page)],
    )
    told = nights_folder(settings).parent / "told" / f"{night}.json"
    return send(settings, context, message, told)


def tell_failure(context: Context) -> None:
    """Say that a group failed: a callback of its verdict. The same failure of the same group is told once.

    Of a night that the watcher has done with nobody is told: a backfill of an archive would send a message per group.
    """
    from nightdesk.desk.place import told_file
    from nightdesk.desk.words import printable
    from nightdesk.io.layout import Layout
    from nightdesk.manifest import read_manifest
    from nightdesk.readiness import watched_since
    from nightdesk_airflow.task import settings_and_group_of

    settings, group = settings_and_group_of(context)
    if not settings.notify.failures or group.night < watched_since(settings):
        return
    manifest = read_manifest(settings, group) or {}
    reason = printable(str(manifest.get("reason") or "its log says why"))
    subject = f"{settings.site.name}: {group.key} needs a hand"
    run = f"/dags/reduce_group/runs/{group.run_id}"
    link = f"{base}{run}" if (base := _base_url()) else f"Run {group.run_id} of reduce_group"
    send(settings, context, Message(subject, [subject, reason], link), told_file(Layout(settings, group)))


@dataclass(frozen=True)
class Message:
    """What is sent: a subject, lines that may quote headers, and a link of our own; a mail may be a page with files."""

    subject: str
    lines: list[str]
    link: str = ""
    body: str = ""
    files: list[str] = field(default_factory=list)


def send(settings: Settings, context: Context, message: Message, told: Path) -> str:
    """Send a message by every way that is configured, and write down in `told` by which it went: none is told twice.

    A way that fails fails the task, after the others were tried.
    """
    from nightdesk.io.atomic import read_json, write_json

    ways = {}
    if settings.notify.mail_to:
        ways["mail"] = _mail
    if settings.notify.webhook_connection:
        ways["webhook"] = _post
    if not ways:
        return "Nobody is to be told: [notify] names no one."
    known = read_json(told)
    done: list[str] = known["ways"] if isinstance(known, dict) and known.get("lines") == message.lines else []
    errors: list[Exception] = []
    for way, act in ways.items():
        if way in done:
            continue
        try:
            act(settings, context, message)
        except Exception as error:  # noqa: BLE001 - whatever stops one way must not stop the other; it is raised below
            errors.append(error)
        else:
            done = [*done, way]
            write_json(told, {"lines": message.lines, "ways": done})
    if errors:
        raise errors[0]
    return f"Told by {' and '.join(done)}."


def _base_url() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="") or "").rstrip("/")


def _mail(settings: Settings, context: Context, message: Message) -> None:
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    SmtpNotifier(
        to=list(settings.notify.mail_to),
        from_email=settings.notify.mail_from,
        subject=" ".join(message.subject.split()),
        html_content=message.body or "".join(f"<p>{html.escape(line)}</p>" for line in [*message.lines, message.link]),
        files=message.files,
        smtp_conn_id=settings.notify.mail_connection,
    ).notify(context)


def _post(settings: Settings, context: Context, message: Message) -> None:
    from airflow.providers.http.notifications.http import HttpNotifier

    from nightdesk.desk.words import chat

    lines = [chat(line) for line in message.lines] + ([message.link] if message.link else [])
    content: dict[str, Any] = {settings.notify.webhook_key: "\n".join(lines)}
    HttpNotifier(
        http_conn_id=str(settings.notify.webhook_connection),
        endpoint=settings.notify.webhook_path,
        data=json.dumps(content),
        headers={"content-type": "application/json"},
    ).notify(context)
