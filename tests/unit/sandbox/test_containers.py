"""Containers from images: names and quantities, a pod as a runtime configuration, layers, archives, files of volumes."""

import contextlib
import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.base.errors import InvalidInput
from vrata.sandbox.containers.containers import Containers, ImageMissing
from vrata.sandbox.containers.images import Images
from vrata.sandbox.containers.model import Image, is_named, normalized, parse_quantity, parse_user
from vrata.sandbox.containers.render import CAPABILITIES, Machine, Place, missing_controllers, render_runtime
from vrata.sandbox.containers.runtime import Runtime
from vrata.sandbox.containers.unpack import checked, unpack
from vrata.sandbox.containers.volumes import ACCOUNT_DIR, plan_files, with_account, write_files
from vrata.sandbox.kubelet.model import FileSource, Pod

Json = dict[str, Any]
DIGEST = f"sha256:{'1' * 64}"
IMAGE = Image(DIGEST, ("vrata:1",), ("/usr/bin/vrata",), ("--help",), ("PATH=/bin", "LANG=C"), "/srv", 65532, 65532)
ALL = frozenset({*CAPABILITIES, "NET_ADMIN"})
MACHINE = Machine(frozenset({"cpu", "memory"}), ALL)
PLACE = Place("/b/rootfs", "/g", "/run/netns/p", {"tmp": "/v/tmp"}, {"/etc/hosts": "/p/hosts"})


def pod(spec: Json | None = None, **container: Any) -> Pod:
    containers = [{"name": "c", "image": "vrata:1", **container}]
    meta = {"name": "p", "namespace": "n", "uid": "u"}
    return msgspec.convert({"metadata": meta, "spec": {"containers": containers, **(spec or {})}}, Pod)


def rendered(spec: Json | None = None, machine: Machine = MACHINE, **container: Any) -> Json:
    made = pod(spec, **container)
    return render_runtime(made, made.spec.containers[0], IMAGE, {"PATH": "/bin", "WHO": "me"}, PLACE, machine)


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("vrata", "vrata:latest"),
        ("docker.io/library/vrata:1", "vrata:1"),
        ("localhost/vrata:1", "vrata:1"),
        ("registry.example:5000/a/vrata", "registry.example:5000/a/vrata:latest"),
        (f"vrata@{DIGEST}", f"vrata@{DIGEST}"),
    ],
)
def test_names_are_read_as_runtimes_read_them(name: str, full: str) -> None:
    assert normalized(name) == full


def test_an_image_is_found_by_its_tag_or_by_its_digest_under_its_own_name() -> None:
    assert is_named(IMAGE, "docker.io/library/vrata:1")
    assert is_named(IMAGE, f"vrata@{DIGEST}")
    for other in ("vrata:2", "vrata", f"other@{DIGEST}", f"vrata@sha256:{'2' * 64}", "registry.example/vrata:1"):
        assert not is_named(IMAGE, other)


@pytest.mark.parametrize(("text", "value"), [("50m", 0.05), ("512Mi", 512 << 20), ("1.5", 1.5), ("1e3", 1000), (2, 2)])
def test_quantities(text: str | float, value: float) -> None:
    assert float(parse_quantity("x", text)) == value


@given(st.text(max_size=8))
def test_a_quantity_is_a_number_or_refused_by_its_field(text: str) -> None:
    with contextlib.suppress(InvalidInput):
        parse_quantity("limits.cpu", text)


def test_users_are_numbers_or_names_of_the_image() -> None:
    passwd, group = "root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n", "adm:x:4:\n"
    given_as = {"": (0, 0), "web": (33, 34), "33": (33, 34), "7": (7, 0), "web:adm": (33, 4), "7:8": (7, 8)}
    assert {text: parse_user(text, passwd, group) for text in given_as} == given_as
    for wrong in ("nobody", "web:nobody"):
        with pytest.raises(InvalidInput):
            parse_user(wrong, passwd, group)


def test_a_pod_of_the_chart_is_confined_as_it_says() -> None:
    spec = {"securityContext": {"runAsUser": 5, "runAsGroup": 6, "runAsNonRoot": True, "fsGroup": 7}}
    context = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    config = rendered(spec, securityContext=context, resources={"limits": {"memory": "64Mi", "cpu": "250m"}})
    process = config["process"]
    assert process["user"] == {"uid": 5, "gid": 6, "additionalGids": [7]}
    assert process["capabilities"] == {"bounding": [], "effective": [], "permitted": []}
    assert process["noNewPrivileges"] is True
    assert config["root"] == {"path": "/b/rootfs", "readonly": True}
    resources = config["linux"]["resources"]
    assert resources["memory"] == {"limit": 64 << 20}
    assert resources["cpu"] == {"quota": 25_000, "period": 100_000}
    assert {"type": "network", "path": "/run/netns/p"} in config["linux"]["namespaces"]


def test_what_a_pod_does_not_say_is_the_images() -> None:
    process = rendered()["process"]
    assert process["args"] == ["/usr/bin/vrata", "--help"]
    assert (process["user"]["uid"], process["user"]["gid"], process["cwd"]) == (65532, 65532, "/srv")
    assert process["capabilities"]["bounding"] == [f"CAP_{name}" for name in sorted(CAPABILITIES)]
    assert process["noNewPrivileges"] is False


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"args": ["provider"]}, ["/usr/bin/vrata", "provider"]),
        ({"command": ["sh"]}, ["sh"]),
        ({"command": ["sh"], "args": ["-c", "echo $(WHO) $$(WHO)"]}, ["sh", "-c", "echo me $(WHO)"]),
    ],
)
def test_command_and_args_stand_in_for_entry_point_and_command(own: Json, words: list[str]) -> None:
    assert rendered(**own)["process"]["args"] == words


def test_what_is_added_by_name_stays_when_all_is_dropped() -> None:
    context = {"runAsUser": 0, "capabilities": {"drop": ["ALL"], "add": ["CAP_NET_ADMIN"]}}
    assert rendered(securityContext=context)["process"]["capabilities"]["permitted"] == ["CAP_NET_ADMIN"]


@pytest.mark.parametrize(
    ("spec", "own", "field"),
    [
        ({"securityContext": {"runAsNonRoot": True, "runAsUser": 0}}, {}, "runAsNonRoot"),
        ({}, {"securityContext": {"capabilities": {"add": ["SYS_BOOT"]}}}, "capabilities.add"),
        ({}, {"resources": {"limits": {"memory": "lots"}}}, "limits.memory"),
        ({}, {"volumeMounts": [{"name": "other", "mountPath": "/o"}]}, "volumeMounts"),
        ({}, {"volumeMounts": [{"name": "tmp", "mountPath": "/o", "subPath": "../x"}]}, "subPath"),
    ],
)
def test_what_cannot_be_had_is_refused_by_its_field(spec: Json, own: Json, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        rendered(spec, **own)
    assert refused.value.field == field


def test_a_limit_without_a_control_group_is_left_out_and_named() -> None:
    limits = {"limits": {"memory": "64Mi", "cpu": 1}}
    config = rendered(machine=Machine(frozenset(), ALL), resources=limits)
    assert not {"memory", "cpu"} & config["linux"]["resources"].keys()
    container = pod(resources=limits).spec.containers[0]
    assert missing_controllers(container, frozenset({"cpu"})) == ["memory"]


def test_volumes_are_mounted_where_the_pod_says() -> None:
    mounts = rendered(volumeMounts=[{"name": "tmp", "mountPath": "/data", "subPath": "a", "readOnly": True}])["mounts"]
    found = {one["destination"]: one for one in mounts}
    assert found["/data"]["source"] == "/v/tmp/a"
    assert "ro" in found["/data"]["options"]
    assert found["/etc/hosts"]["source"] == "/p/hosts"


def test_every_pod_gets_its_accounts_token_unless_it_says_no() -> None:
    def targets(made: Pod) -> list[str]:
        return [one.mount_path for one in with_account(made, made.spec.containers[0])[0].volume_mounts]

    assert targets(pod()) == [ACCOUNT_DIR]
    assert targets(pod({"automountServiceAccountToken": False})) == []
    own = [{"name": "t", "mountPath": ACCOUNT_DIR}]
    assert targets(pod(volumeMounts=own)) == [ACCOUNT_DIR]


def test_files_of_a_volume_change_all_at_once_and_old_ones_go(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    write_files(volume, {"a": (b"1", 0o600), "d/b": (b"2", 0o644)}, None)
    first = (volume / "..data").readlink()
    write_files(volume, {"a": (b"1", 0o600), "d/b": (b"2", 0o644)}, None)
    assert (volume / "..data").readlink() == first
    assert ((volume / "a").read_bytes(), (volume / "d/b").read_bytes()) == (b"1", b"2")
    assert (volume / "a").stat().st_mode & 0o777 == 0o600
    write_files(volume, {"c": (b"3", 0o644)}, None)
    assert sorted(one.name for one in volume.iterdir() if not one.name.startswith("..")) == ["c"]
    assert not (volume / first).exists()


def test_a_missing_object_or_key_is_named_unless_it_is_optional() -> None:
    assert plan_files("secret", "s", FileSource(optional=True), None, 0o644) == {}
    items = msgspec.convert({"items": [{"key": "k", "path": "p", "mode": 256}]}, FileSource)
    assert plan_files("secret", "s", items, {"k": b"v", "other": b""}, 0o644) == {"p": (b"v", 0o400)}
    for source, data in ((FileSource(), None), (items, {})):
        with pytest.raises(InvalidInput, match="s"):
            plan_files("secret", "s", source, data, 0o644)


def member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    info.uid, info.gid, info.mode = os.getuid(), os.getgid(), 0o755
    return info, content


def layer(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def apply(root: Path, content: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r|*") as archive:
        unpack(archive, root)


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_a_name_that_leads_out_of_the_image_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leads out"):
        apply(tmp_path, layer(member(name, content=b"x")))
    with pytest.raises(ValueError, match="leads out"):
        apply(tmp_path, layer(member("a", tarfile.LNKTYPE, link=name)))


@given(st.lists(st.sampled_from(["a", "b", ".", "c d"]), min_size=1, max_size=4))
def test_a_name_below_the_root_stays_there(parts: list[str]) -> None:
    assert not checked("/".join(parts)).startswith(("/", ".."))


def test_upper_layers_remove_and_replace(tmp_path: Path) -> None:
    below = [
        member("d", tarfile.DIRTYPE),
        *(member(f"d/{name}", content=b"1") for name in "abc"),
        member("e", content=b"1"),
    ]
    apply(tmp_path, layer(*below))
    apply(tmp_path, layer(member("d/.wh.a"), member("d/b", content=b"2"), member("e", tarfile.DIRTYPE)))
    assert {one.name: one.read_bytes() for one in (tmp_path / "d").iterdir()} == {"b": b"2", "c": b"1"}
    assert (tmp_path / "e").is_dir()
    apply(tmp_path, layer(member("d/new", content=b"3"), member("d/.wh..wh..opq")))
    assert [one.name for one in (tmp_path / "d").iterdir()] == ["new"]


def archive(path: Path, name: str = "vrata:1", blob: bytes | None = None, media: str = "tar+gzip") -> Path:
    """An OCI archive of one layer; `blob` in its place damages it."""
    packed = gzip.compress(layer(member("etc", tarfile.DIRTYPE), member("etc/passwd", content=b"web:x:33:34::/:\n")))
    blobs: dict[str, bytes] = {}

    def put(content: bytes) -> str:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        blobs[digest[7:]] = content
        return digest

    config = put(json.dumps({"config": {"User": "web", "Cmd": ["x"]}}).encode())
    layers = [{"mediaType": f"application/vnd.oci.image.layer.v1.{media}", "digest": put(packed)}]
    manifest = put(json.dumps({"config": {"digest": config}, "layers": layers}).encode())
    if blob is not None:
        blobs[layers[0]["digest"][7:]] = blob
    notes = {"org.opencontainers.image.ref.name": name} if name else {}
    index = json.dumps({"manifests": [{"digest": manifest, "annotations": notes}]}).encode()
    members = [
        member("index.json", content=index),
        *(member(f"blobs/sha256/{key}", content=value) for key, value in blobs.items()),
    ]
    path.write_bytes(layer(*members))
    return path


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("unpacking changes its root, which needs root")


@pytest.mark.usefixtures("root")
def test_an_archive_is_unpacked_once_and_found_by_its_name(tmp_path: Path) -> None:
    images = Images(tmp_path / "images")
    file = archive(tmp_path / "a.tar")
    (image,) = images.add(file)
    assert (image.names, image.user, image.group, image.command) == (("vrata:1",), 33, 34, ("x",))
    assert (images.root(image) / "etc/passwd").exists()
    (images.root(image) / "mark").touch()
    assert images.add(file) == [image]
    assert (images.root(image) / "mark").exists()
    assert images.find("docker.io/library/vrata:1") == image
    assert images.find("vrata:2") is None


@pytest.mark.usefixtures("root")
def test_what_a_killed_import_left_is_removed_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "images" / f".{'a' * 64}.new"
    (left / "rootfs").mkdir(parents=True)
    Images(tmp_path / "images").add(archive(tmp_path / "a.tar"))
    assert not left.exists()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"blob": b"damaged"}, "does not have this digest"),
        ({"name": ""}, "does not name its image"),
        ({"media": "tar+zstd"}, "use tar or tar\\+gzip"),
    ],
)
def test_an_archive_that_is_damaged_or_of_another_kind_leaves_no_image(tmp_path: Path, wrong: Json, said: str) -> None:
    images = Images(tmp_path / "images")
    with pytest.raises(InvalidInput, match=said):
        images.add(archive(tmp_path / "a.tar", **wrong))
    assert images.all() == []


@pytest.mark.parametrize("content", [b"", b"no archive", layer(member("manifest.json", content=b"[]"))])
def test_a_file_that_is_no_oci_archive_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(content)
    with pytest.raises(InvalidInput) as refused:
        Images(tmp_path / "images").add(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("root")
def test_an_unknown_image_is_missing_only_where_images_were_given(tmp_path: Path) -> None:
    images = Images(tmp_path / "images")
    containers = Containers("s", images, Runtime(tmp_path), None)  # type: ignore[arg-type] # asks no API server
    assert containers.find("any:1") is None
    images.add(archive(tmp_path / "a.tar"))
    assert containers.find("vrata/echo") is None
    assert containers.find("vrata:1") is not None
    with pytest.raises(ImageMissing, match="vrata up --image"):
        containers.find("any:1")
