"""One node's containers from images: what is needed to start one, in the order in which it is needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vrata.base.errors import InvalidInput, VrataError
from vrata.base.files import write_atomic
from vrata.sandbox.containers import runtime, volumes
from vrata.sandbox.containers.images import Images
from vrata.sandbox.containers.model import Image
from vrata.sandbox.containers.render import Place, plan_environment, render_runtime
from vrata.sandbox.containers.runtime import Runtime
from vrata.sandbox.containers.volumes import Addresses, Sources
from vrata.sandbox.kubelet.model import Container, Pod

PROCESS_IMAGES = ("vrata/echo", "vrata:sandbox")  # of programs of this machine
HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class ImageMissing(VrataError):
    """No image of this name was given to the sandbox."""


class VolumeFailed(VrataError):
    """A volume of a pod cannot be made now."""


@dataclass(frozen=True)
class Containers:
    """Images, runc and the API server, for the pods of one node."""

    sandbox: str
    images: Images
    runtime: Runtime
    sources: Sources

    def find(self, name: str) -> Image | None:
        """The image of a container; None for one that is a process. ImageMissing if it is neither."""
        found = self.images.find(name)
        known = name.split(":", maxsplit=1)[0] == PROCESS_IMAGES[0] or name in PROCESS_IMAGES
        if found is None and not known and self.images.all():
            raise ImageMissing(f"image {name!r} is not in this sandbox", remedy="give it with `vrata up --image FILE`")
        return found

    @staticmethod
    def name(pod: Pod, container: Container) -> str:
        """runc's id of a container."""
        return f"{pod.metadata.uid}.{container.name}"

    def cgroup(self, pod: Pod, container: Container) -> str:
        """The control group of a container."""
        return f"/vrata.{self.sandbox}.{self.name(pod, container)}"

    async def prepare(
        self, pod: Pod, container: Container, image: Image, directory: Path, netns: str, addresses: Addresses,
        fields: Mapping[str, str],
    ) -> list[str]:  # fmt: skip
        """Make volumes and bundle; the command to run. VrataError says what is wrong with the pod.

        `directory` is the pod's own. `fields`: the variables that the kubelet knows by itself.
        """
        container, declared = volumes.with_account(pod, container)
        mounted = {mount.name for mount in container.volume_mounts}
        places = {}
        folder = directory / "volumes"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for volume in declared:
            if volume.name in mounted:
                place = folder / volume.name
                try:
                    await volumes.ensure_volume(place, pod, volume, self.sources, addresses)
                except (VrataError, OSError) as error:
                    raise VolumeFailed(f'MountVolume.SetUp failed for volume "{volume.name}" : {error}') from error
                places[volume.name] = str(place)
        own = await self._variables(pod, container, fields)
        host, port = await self.sources.service()
        fixed = {"HOSTNAME": pod.metadata.name, "KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port,
                 "KUBERNETES_SERVICE_PORT_HTTPS": port}  # fmt: skip
        bundle = self.bundle(directory, container)
        place_of = Place(
            root=str(bundle / "rootfs"),
            cgroup=self.cgroup(pod, container),
            netns=netns,
            volumes=places,
            files=self._files(directory, pod, addresses.pod),
        )
        environment = plan_environment(image, fixed, own)
        config = render_runtime(pod, container, image, environment, place_of, runtime.observe_machine())
        name = self.name(pod, container)
        await self.runtime.remove(name)
        await self.runtime.prepare(bundle, self.images.root(image), config)
        return list(self.runtime.run_command(name, bundle))

    async def refresh(self, pod: Pod, directory: Path, addresses: Addresses) -> None:
        """Bring files of objects, and tokens, up to date in all volumes of a pod that are there."""
        declared = {volume.name: volume for one in pod.spec.containers for volume in volumes.with_account(pod, one)[1]}
        for name, volume in declared.items():
            place = directory / "volumes" / name
            if place.exists() and volume.empty_dir is None:
                await volumes.ensure_volume(place, pod, volume, self.sources, addresses)

    async def _variables(self, pod: Pod, container: Container, fields: Mapping[str, str]) -> dict[str, str]:
        """The container's variables in their order, with those from Secrets and ConfigMaps."""
        found = {}
        for variable in container.env:
            source = variable.value_from
            if source and (source.secret_key_ref or source.config_map_key_ref):
                key = source.secret_key_ref or source.config_map_key_ref
                assert key
                read = self.sources.secret if source.secret_key_ref else self.sources.config_map
                value = (await read(pod.metadata.namespace, key.name) or {}).get(key.key)
                if value is not None:
                    found[variable.name] = value.decode(errors="replace")
                elif not key.optional:
                    raise InvalidInput("env", variable.name, f"there is no key {key.key!r} in {key.name!r}; create it")
            else:
                found[variable.name] = fields[variable.name]
        return found

    @staticmethod
    def _files(directory: Path, pod: Pod, address: str) -> dict[str, str]:
        hosts, resolver = directory / "hosts", Path("/etc/resolv.conf")
        write_atomic(hosts, f"{HOSTS}{address}\t{pod.metadata.name}\n")
        found = {"/etc/hosts": str(hosts)}
        if resolver.exists():
            copy = directory / "resolv.conf"
            write_atomic(copy, resolver.read_bytes())
            found["/etc/resolv.conf"] = str(copy)
        return found

    @staticmethod
    def bundle(directory: Path, container: Container) -> Path:
        """Where runc's configuration and the root of a container are."""
        return directory / "containers" / container.name
