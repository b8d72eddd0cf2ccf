"""What can be set of a WireGuard network, and the addresses that follow from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from clan.model.module import MachineName, Settings
from clan.model.names import is_domain
from clan.model.target import host_fault
from clan.modules.wireguard.addresses import controller_address, peer_address

if TYPE_CHECKING:
    from clan.model.clan import Instance


def checked_endpoint(host: str) -> str:
    """Refuse what is no host name or address."""
    fault = host_fault(host)
    if fault:
        raise ValueError(f"{fault}; the port is a setting of its own")
    return host


def checked_domain(domain: str) -> str:
    """Refuse what cannot follow a dot."""
    if not is_domain(domain):
        raise ValueError(f"{domain!r} is no domain")
    return domain


class WireguardSettings(Settings):
    """What holds for the whole network."""

    priority: int = Field(1000, description="Networks of higher priority are tried first.")
    domain: Annotated[str, AfterValidator(checked_domain)] | None = Field(
        None,
        description="What follows the dot in names there (default: the instance's name).",
    )
    mtu: int = Field(
        1420, description="Largest packet in bytes; IPv6 needs 1280.", ge=1280, le=9000
    )


class ControllerSettings(Settings):
    """How a controller is reached."""

    endpoint: Annotated[str, AfterValidator(checked_endpoint)] = Field(
        description="Public name or address of the controller."
    )
    port: int = Field(51820, description="UDP port that it listens on.", ge=1, le=65535)


class PeerSettings(Settings):
    """How a peer takes part."""

    controller: MachineName | None = Field(
        None,
        description="The controller in whose subnet its name resolves; needed with several.",
    )


def domain_of(instance: Instance) -> str:
    """Return what follows the dot in names of the network."""
    return WireguardSettings.of(instance).domain or instance.name


def addresses_of(instance: Instance) -> dict[str, tuple[str, ...]]:
    """Return each machine's addresses, controllers first, in the order they are to be tried.

    A peer's address in its own controller's subnet comes first, the others in the clan's order.
    """
    controllers = instance.members["controller"]
    found: dict[str, tuple[str, ...]] = {
        name: (controller_address(instance.name, name),) for name in controllers
    }
    for name, member in instance.members["peer"].items():
        own = PeerSettings.of(member).controller
        ordered = [*([own] if own else []), *(each for each in controllers if each != own)]
        found[name] = tuple(peer_address(instance.name, each, name) for each in ordered)
    return found
