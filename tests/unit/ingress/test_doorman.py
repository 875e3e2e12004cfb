"""Who asks whether a password is right, and who has to wait."""

import asyncio
import base64
from typing import Any

from passlib.hash import bcrypt  # type: ignore[import-untyped]

from vrata.ingress.doorman import WAITING, doorman
from vrata.ingress.users import Users

SECRET = "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="
COSTLY = str(bcrypt.using(rounds=10).hash("secret"))


def find(key: str, _version: str) -> Users | None:
    known = {"team/users;users": SECRET, "greedy/users;users": COSTLY}
    return Users({"ann": known[key]}, "1") if key in known else None


async def ask(app: Any, namespace: str, given: str, name: str = "users") -> int:
    """The status of one question."""
    path = f"/{namespace}/{name};users/1"
    headers = [(b"authorization", b"Basic " + base64.b64encode(given.encode()))]
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    found: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, Any]) -> None:
        found.append(message.get("status", 0))

    await app({**scope, "headers": headers, "root_path": "", "http_version": "1.1", "scheme": "http"}, receive, send)
    return found[0]


async def test_right_and_wrong_passwords_and_lists_that_nobody_has() -> None:
    app = doorman(find)
    assert [await ask(app, "team", given) for given in ("ann:secret", "ann:other", "bob:secret", "ann")] == [
        *(204, 401, 401, 401),
    ]
    assert await ask(app, "nobody", "ann:secret") == 503


async def test_guesses_at_many_lists_of_a_namespace_keep_no_other_namespace_waiting() -> None:
    lists = [f"list-{number}" for number in range(30)]
    app = doorman(lambda key, _: Users({"ann": COSTLY if key.startswith("greedy/") else SECRET}, "1"))
    guesses = [asyncio.create_task(ask(app, "greedy", "ann:wrong", name)) for name in lists]
    await asyncio.sleep(0.05)
    assert await ask(app, "team", "ann:secret") == 204
    assert sum(one.done() for one in guesses) < len(lists) // 2
    for one in guesses:
        one.cancel()
    await asyncio.wait(guesses)


async def test_whoever_guesses_at_one_list_keeps_nobody_waiting_who_has_another() -> None:
    app = doorman(find)
    guesses = [asyncio.create_task(ask(app, "greedy", f"ann:{number}")) for number in range(4 * WAITING)]
    await asyncio.wait(guesses, return_when=asyncio.FIRST_COMPLETED)
    assert await ask(app, "team", "ann:secret") == 204
    assert sum(one.done() and one.result() == 503 for one in guesses) == 3 * WAITING
    for one in guesses:
        one.cancel()
    await asyncio.wait(guesses)
