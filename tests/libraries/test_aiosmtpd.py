"""aiosmtpd, and mail to it by smtplib and by aiosmtplib, after STARTTLS or without."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage

import aiosmtplib
from aiosmtpd.handlers import Message
from aiosmtpd.smtp import SMTP

from .conftest import HOST, NAME, Ends, Tls, blocking, plain_and_tls, run, serving


class Box(Message):
    """Keeps what comes."""

    def __init__(self) -> None:
        super().__init__()
        self.subjects: list[str] = []

    def handle_message(self, message: object) -> None:
        self.subjects.append(str(message["Subject"]))  # type: ignore[index]


@plain_and_tls
def test_aiosmtpd(ends: Ends, tls: Tls, secure: bool) -> None:
    box = Box()

    @asynccontextmanager
    async def server() -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        context = tls.server if secure else None

        def session() -> SMTP:
            return SMTP(box, hostname=NAME, tls_context=context, require_starttls=secure)

        async with await loop.create_server(session, HOST, 25):
            yield

    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "a@client.test", f"b@{NAME}", "by aiosmtplib"
    mail.set_content("hello\n" * 10_000)

    async def client() -> None:
        await aiosmtplib.send(mail, hostname=NAME, port=25, start_tls=secure, tls_context=tls.client)

    with serving(ends.server, server):
        run(ends.client, client)
        with blocking(ends.client), smtplib.SMTP(NAME, 25) as smtp:
            if secure:
                smtp.starttls(context=tls.client)
            mail.replace_header("Subject", "by smtplib")
            smtp.send_message(mail)
    assert box.subjects == ["by aiosmtplib", "by smtplib"]
