"""The sites at the door of the SuperLink: a node is registered for every site of the roster, under its own key, and for nobody else.

Protects against: a SuperNode of a site that is not in the roster, or no longer: its key is not registered, and it is turned away.
Does not protect against: what a registered site sends; its messages are signed and checked by the exchange.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest, UnregisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from common.errors import RosterRefused, StorageError
from server.deploy.folder import Deployment

ONLINE = "online"


@dataclass(frozen=True, slots=True)
class Node:
    """One registered SuperNode. `state` is Flower's word: `registered` (never seen yet), `online`, `offline`; `since` when it changed."""

    node_id: int
    site: str
    key: bytes
    state: str
    since: str


def nodes(deployment: Deployment) -> list[Node]:
    """Every registered node, by site. Raises StorageError when the SuperLink does not answer."""
    with _control(deployment) as control:
        return _list(control)


def settle(deployment: Deployment, wanted: Mapping[str, bytes]) -> list[str]:
    """Register and unregister nodes until exactly those of `wanted` (site → PEM key of its node) are there. Returns what was done."""
    done = []
    with _control(deployment) as control:
        present = _list(control)
        for node in present:
            if wanted.get(node.site) != node.key:
                control.UnregisterNode(UnregisterNodeRequest(node_id=node.node_id))
                done.append(f"{node.site} is no longer admitted with its former key")
        keys = {node.site: node.key for node in present}
        for site, key in sorted(wanted.items()):
            if keys.get(site) != key:
                _register(control, site, key)
                done.append(f"{site} is admitted")
    return done


def _register(control: ControlHttpClient, site: str, key: bytes) -> None:
    try:
        control.RegisterNode(RegisterNodeRequest(public_key=key, name=site))
    except httpx.HTTPStatusError as error:
        if error.response.status_code != httpx.codes.PRECONDITION_FAILED:
            raise
        raise RosterRefused(
            f"the node key of `{site}` was registered before and cannot come back; run `wardround-site rotate` there and take its new card"
        ) from None


def _list(control: ControlHttpClient) -> list[Node]:
    found = (
        Node(
            node.node_id, node.name, node.public_key, node.status, node.last_deactivated_at or node.last_activated_at or node.registered_at
        )
        for node in control.ListNodes(ListNodesRequest()).nodes_info
        if not node.unregistered_at
    )
    return sorted(found, key=lambda node: node.site)


@contextmanager
def _control(deployment: Deployment) -> Iterator[ControlHttpClient]:
    try:
        client = ControlHttpClient.from_server_address(
            deployment.superlink_address,
            insecure=False,
            root_certificates=deployment.ca_certificate.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )
        try:
            yield client
        finally:
            client.close()
    except httpx.HTTPStatusError as error:
        raise StorageError(f"the SuperLink on {deployment.superlink_address} refused with status {error.response.status_code}") from None
    except (httpx.HTTPError, OSError):
        raise StorageError(
            f"the SuperLink on {deployment.superlink_address} does not answer; start it with `wardround-coordinator up`"
        ) from None
