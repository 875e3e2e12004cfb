"""The OpenStack CLI in one process: starting it takes two seconds, a command a tenth of one.

Run as a program it reads commands, one JSON list a line, and answers with exit status, output and errors.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.cloud import Cloud


class OpenStackCli:
    """The CLI's own shell behind a pipe, as demo or admin; with a token, since a password costs 0.2 s a command."""

    def __init__(self, cloud: "Cloud", user: str) -> None:
        environment = {
            **os.environ, "OS_AUTH_TYPE": "token", "OS_TOKEN": cloud.token(user), "OS_PROJECT_NAME": user,
            "OS_AUTH_URL": f"{cloud.url}/identity/v3", "OS_PROJECT_DOMAIN_ID": "default",
            "OS_IDENTITY_API_VERSION": "3", "OS_CLIENT_CONFIG_FILE": os.devnull,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output and errors of `openstack` with these arguments."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        status, out, err = json.loads(self.process.stdout.readline())
        return status, out, err

    def text(self, command: str) -> str:
        """What a command prints; AssertionError if it fails. The command is split at spaces."""
        status, out, err = self.run(*command.split())
        assert status == 0, f"{command}: {err or out}"
        return out

    def json(self, command: str) -> Any:
        """The same, decoded, of a command that prints objects."""
        return json.loads(self.text(f"{command} -f json"))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(90)
        assert self.process.stdout is not None
        self.process.stdout.close()


def _serve() -> None:
    from openstackclient.shell import OpenStackShell

    answers = sys.stdout
    for line in sys.stdin:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status: Any = OpenStackShell().run(json.loads(line))
            except SystemExit as stop:  # argparse's way to refuse
                status = stop.code
        answers.write(json.dumps([status, out.getvalue(), err.getvalue()]) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
