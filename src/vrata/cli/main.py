"""`vrata`: finds the command and imports only its module, so that `--help` and short commands start fast."""

import importlib
import sys
from pathlib import Path
from typing import NoReturn

import click

from vrata import __version__
from vrata.base.errors import InvalidInput, VrataError

# command -> module under vrata.cli with a click command named `command`, and the line `--help` shows
COMMANDS = {
    "up": ("up", "Bring up (or repair) the sandbox: a cloud and a cluster on this machine."),
    "down": ("down", "Remove the sandbox and everything it created."),
    "status": ("overview", "Show the sandbox's parts, addresses and balancers."),
    "logs": ("logs", "Print the log of one part of the sandbox."),
    "kubeconfig": ("kubeconfig", "Print the path (or text) of the sandbox's kubeconfig."),
    "hosts": ("hosts", "List the hosts that serve load balancers; drain one, use it again, forget it."),
    "failover": ("failover", "Replace a load balancer's instances; no request is lost."),
    "top": ("top", "Show balancers live: active and standby, rates, the last failover and its length."),
    "exec": ("exec", "Run a command inside one of the sandbox's machines."),
    "demo": ("demo", "Show every feature live, step by step; ends with 1 if a step fails."),
    "doctor": ("doctor", "Check this machine or this cluster, and say what to do."),
    "cloud": ("cloud", "Serve the OpenStack-compatible APIs."),
    "host": ("host", "Run the agent of one host."),
    "provider": ("provider", "Run the cloud provider: Services of type LoadBalancer get balancers."),
    "node": ("node", "Run the node proxy: NodePort and ClusterIP in nftables."),
    "ingress": ("ingress", "Run the Ingress controller."),
    "echo": ("echo", "Run the echo server that pods with the image vrata/echo run."),
    "apiserver": ("apiserver", "Serve the sandbox's Kubernetes API."),
    "relay": ("relay", "Forward TCP from inside the sandbox to an API server outside."),
    "kubelet": ("kubelet", "Run the pods of one of the sandbox's nodes."),
    "workloads": ("workloads", "Run the sandbox's Deployment, ReplicaSet and EndpointSlice controllers."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = importlib.import_module(f"vrata.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with `vrata up`, then `kubectl --kubeconfig $(vrata kubeconfig) apply -f …`; or see `vrata demo`.",
)
@click.version_option(__version__, prog_name="vrata")
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="VRATA_CONFIG",
    show_envvar=True,
    help="TOML file with options of commands, e.g. `listen` in [cloud.serve]; the command line wins.",
)
@click.pass_context
def cli(context: click.Context, config: Path | None) -> None:
    """Load balancers and Ingress for Kubernetes: an active-standby HAProxy pair behind every address."""
    if config is not None:
        from vrata.cli import configuration

        assert isinstance(context.command, click.Group)
        context.default_map = configuration.read(config, context.command)


def main() -> None:
    """Entry point. What is wrong is one line on stderr; the exit status is 2 for a wrong option or argument, else 1."""
    try:
        sys.exit(cli(prog_name="vrata", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "vrata"
        what = error.format_message().rstrip(".")
        _end(f"{command}: {what} (see `{command} --help`)", error.exit_code)
    except click.ClickException as error:
        _end(f"vrata: {error.format_message()}", error.exit_code)
    except click.Abort:
        _end("vrata: ended", 1)
    except VrataError as error:
        wrong_option = isinstance(error, InvalidInput) and error.field.startswith("--")
        _end(f"vrata: {error}", 2 if wrong_option else 1)


def _end(line: str, status: int) -> NoReturn:
    click.echo(" ".join(line.split()), err=True)
    sys.exit(status)
