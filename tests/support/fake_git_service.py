"""A Git service of one bare repository, served by git itself: lets a door be tested without what is below."""

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

from mainstay.access.policy import PushRules
from mainstay.git.protocol.services import Service
from mainstay.repository.push import PushContext
from mainstay.repository.streams import ByteSink, ByteSource


def bare_repository(directory: Path) -> Path:
    """A new, empty bare repository that takes pushes and filters."""
    git("init", "--quiet", "--bare", "--initial-branch=main", str(directory))
    for setting in ("http.receivepack", "uploadpack.allowFilter", "receive.advertisePushOptions"):
        git("-C", str(directory), "config", setting, "true")
    return directory


def git(*arguments: str) -> str:
    """Run git to prepare or to look; raises when it fails."""
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


class FakeGitService:
    """Answers like `repository.service.GitService`; every repository id means the same repository."""

    def __init__(self, bare: Path) -> None:
        self.bare = bare
        self.contexts: list[PushContext] = []
        self.running = 0

    def look(self, repository_id: int) -> None:
        """Native git looks for itself."""

    look_at_once = look

    async def advertise(
        self, repository_id: int, service: Service, *, version: int, sink: ByteSink, seen: None = None
    ) -> None:
        await self._run(
            [service.removeprefix("git-"), "--http-backend-info-refs", str(self.bare)], version, None, sink
        )

    async def upload_pack(
        self,
        repository_id: int,
        *,
        version: int,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        seen: None = None,
    ) -> None:
        flags = ["--stateless-rpc"] if stateless else []
        await self._run(["upload-pack", *flags, str(self.bare)], version, source, sink)

    async def receive_pack(
        self,
        repository_id: int,
        *,
        stateless: bool,
        source: ByteSource,
        sink: ByteSink,
        rules: PushRules,
        context: PushContext,
        seen: None = None,
    ) -> None:
        self.contexts.append(context)
        flags = ["--stateless-rpc"] if stateless else []
        await self._run(["receive-pack", *flags, str(self.bare)], 0, source, sink)

    async def _run(
        self, arguments: list[str], version: int, source: ByteSource | None, sink: ByteSink
    ) -> None:
        environment = {**os.environ, "GIT_PROTOCOL": f"version={version}"}
        process = await asyncio.create_subprocess_exec(
            "git",
            *arguments,
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 18,
        )
        self.running += 1
        feeding = asyncio.create_task(_feed(process, source))
        try:
            assert process.stdout is not None
            while chunk := await process.stdout.read(1 << 18):
                await sink.write(chunk)
            await process.wait()
        finally:
            feeding.cancel()
            if process.returncode is None:
                process.kill()
            await process.wait()
            self.running -= 1


async def _feed(process: asyncio.subprocess.Process, source: ByteSource | None) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while source is not None and (chunk := await source.read()):
            process.stdin.write(chunk)
            await process.stdin.drain()
    process.stdin.close()
