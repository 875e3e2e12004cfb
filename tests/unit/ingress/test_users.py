"""Lists of users as htpasswd writes them."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.model import SecretKey
from vrata.ingress.users import FILE, LONGEST_PASSWORD, MAP, Users, is_right, users_in
from vrata.kube.objects import ObjectMeta, Secret

HASHES = {"sha": "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ="}  # `htpasswd -nbs ann secret`


def secret(**data: str) -> Secret:
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    return Secret(metadata=ObjectMeta(name="users", namespace="team"), data=encoded)


def of_file(text: str) -> Users | tuple[str, str]:
    return users_in(SecretKey(f"team/users{FILE}"), secret(auth=text))


def made(password: str) -> dict[str, str]:
    """A hash of each kind."""
    from passlib.hash import apr_md5_crypt, bcrypt, ldap_sha1, md5_crypt, sha256_crypt, sha512_crypt  # type: ignore[import-untyped]

    kinds = (
        apr_md5_crypt,
        bcrypt.using(rounds=4, ident="2y"),
        ldap_sha1,
        md5_crypt,
        sha256_crypt.using(rounds=5000),
        sha512_crypt.using(rounds=5000),
    )
    return {kind.name: kind.hash(password) for kind in kinds}


def test_passwords_of_every_kind() -> None:
    hashes = made("secret") | {"sha": HASHES["sha"]}
    users = of_file("".join(f"{name}:{text}\n" for name, text in hashes.items()))
    assert isinstance(users, Users)
    for name in hashes:
        assert is_right(users, name, "secret"), name
        assert not is_right(users, name, "Secret"), name
    assert not is_right(users, "nobody", "secret")


def test_a_key_for_each_user() -> None:
    users = users_in(SecretKey(f"team/users{MAP}"), secret(ann=HASHES["sha"]))
    assert isinstance(users, Users)
    assert is_right(users, "ann", "secret")


def test_another_password_is_another_version() -> None:
    versions = set()
    for text in (HASHES["sha"], made("other")["ldap_sha1"]):
        users = of_file(f"ann:{text}")
        assert isinstance(users, Users)
        versions.add(users.version)
    assert len(versions) == 2


@pytest.mark.parametrize("text", ["", "ann", "ann:secret", "ann:$2y$04$short", "ann:{SHA}x", "#comment"])
def test_what_is_no_list_says_what_to_do(text: str) -> None:
    found = of_file(text)
    assert isinstance(found, tuple)
    assert found[0] == "InvalidSecret"
    assert "'team/users'" in found[1]


@pytest.mark.parametrize("use", [FILE, MAP])
def test_what_is_wrong_is_said_without_a_word_of_the_secret(use: str) -> None:
    """Whoever may write an Ingress may not read every Secret of the namespace, but its events."""
    for text in ("hunter2", "hunter3:hunter4", "\xff", "hunter2\nhunter3:hunter4:hunter5"):
        found = users_in(SecretKey(f"team/users{use}"), secret(auth=text, hunter1=text))
        assert isinstance(found, tuple)
        assert "hunter" not in found[1]


COSTLY = f"$2y$14${'.' * 53}"
UNVERIFIABLE = [
    "bob:{SSHA}5en6G6MezRroT3XKqkdPOmY/BfRzYWx0", "bob:rqXexS6ZhobKA", "bob:{PLAIN}hunter2", f"bob:{COSTLY}", "bob:",
    "hunter2", "; note: x", ":hunter2", "bob: {SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=", f"bob:$5$rounds=999999$a${'.' * 43}",
]  # fmt: skip
LINES = st.lists(
    st.sampled_from(UNVERIFIABLE) | st.text(st.characters(exclude_characters="\r\n", codec="utf-8")), max_size=8
)


@given(LINES, LINES, st.sampled_from(["\n", "\r\n"]))
def test_a_line_that_cannot_be_verified_keeps_nobody_else_out(before: list[str], after: list[str], end: str) -> None:
    """nginx judges line by line."""
    users = of_file(end.join([*before, f"ann:{HASHES['sha']}", *after]))
    assert isinstance(users, Users)
    assert is_right(users, "ann", "secret")
    assert not is_right(users, "bob", "hunter2")
    assert "hunter2" not in "".join(users.wrong)


@pytest.mark.parametrize("line", UNVERIFIABLE)
def test_the_line_is_told_with_its_number_and_user_and_never_the_hash(line: str) -> None:
    users = of_file(f"ann:{HASHES['sha']}\n\n{line}\n")
    assert isinstance(users, Users)
    (said,) = users.wrong
    user, colon, text = line.partition(":")
    assert "line 3" in said
    assert (f"user {user!r}" in said) == bool(colon and user)
    assert len(text) < 5 or text.strip() not in said


def test_of_two_lines_of_a_user_the_first_one_counts() -> None:
    users = of_file(f"ann:{HASHES['sha']}\nann:{made('other')['ldap_sha1']}\nbob:{{PLAIN}}x\nbob:{HASHES['sha']}")
    assert isinstance(users, Users)
    assert users.hashes == {"ann": HASHES["sha"]}
    assert ["line 2" in users.wrong[0], "line 3" in users.wrong[1], "line 4" in users.wrong[2]] == [True] * 3


def test_bytes_that_are_no_text_are_a_line_of_their_own() -> None:
    data = {"auth": base64.b64encode(b"\xef\xbb\xbfann:" + HASHES["sha"].encode() + b"\nm\xfcller:x\n").decode()}
    for use, entries in (
        (FILE, data),
        (MAP, {"ann": base64.b64encode(HASHES["sha"].encode()).decode(), "bob": "/w=="}),
    ):
        made_of = Secret(metadata=ObjectMeta(name="users", namespace="team"), data=entries)
        users = users_in(SecretKey(f"team/users{use}"), made_of)
        assert isinstance(users, Users)
        assert is_right(users, "ann", "secret")
        assert len(users.wrong) == 1


def test_many_wrong_lines_are_told_in_a_few() -> None:
    users = of_file("bob:x\n" * 100 + f"ann:{HASHES['sha']}")
    assert isinstance(users, Users)
    assert len(users.wrong) == 6
    assert "95 more" in users.wrong[-1]


@given(st.text(), st.text())
def test_no_password_is_an_error(user: str, password: str) -> None:
    users = of_file(f"ann:{HASHES['sha']}")
    assert isinstance(users, Users)
    assert is_right(users, user, password) == ((user, password) == ("ann", "secret"))


@pytest.mark.parametrize(
    ("kind", "costly"),
    [("$5$rounds={}$salt${:.<43}", 50_001), ("$6$rounds={}$salt${:.<86}", 100_000), ("$2y${}${:.<53}", 13)],
)
def test_the_cost_of_a_check_is_bounded_whatever_the_list_and_the_client_say(kind: str, costly: int) -> None:
    assert isinstance(of_file(f"ann:{kind.format(costly, '')}"), tuple)
    users = of_file(f"ann:{kind.format('04' if '2y' in kind else 5000, '')}")
    assert isinstance(users, Users)
    before = time.thread_time()
    assert not is_right(users, "ann", "a" * 15_000)  # what fits into a request
    assert time.thread_time() - before < 0.005


@pytest.mark.parametrize("text", [f"$5$rounds=50000$salt${'.' * 43}", f"$6$rounds=50000$salt${'.' * 86}"])
def test_the_costliest_hash_that_is_taken_takes_little_time(text: str) -> None:
    users = of_file(f"ann:{text}")
    assert isinstance(users, Users)
    before = time.thread_time()
    assert not is_right(users, "ann", "a" * LONGEST_PASSWORD)
    assert time.thread_time() - before < 0.25


def test_comments_and_empty_lines_are_no_users() -> None:
    """As nginx reads them; one comment must not keep everybody out."""
    text = HASHES["sha"]
    users = of_file(f"# the team\n\nann:{text}\n  \n#bob:{text}\ncid:{text}:since May\n")
    assert isinstance(users, Users)
    assert users.hashes == {"ann": text, "cid": text}
