"""TLS to RabbitMQ, for AMQP and for its management API: certificates of a private authority, checked by default."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import pytest
import pytest_asyncio
import trustme

from control_room.launcher.broker import PrivateBroker
from control_room.launcher.ports import free_ports
from shared.amqp_url import amqp_url
from shared.management import Management, ManagementUnavailable
from shared.messaging.channel import BrokerUnavailable
from shared.messaging.connection import Connection
from shared.settings import BrokerSettings
from shared.tls import TlsFiles
from shared.topology import provision
from tests.order_rail import order_rail
from tests.service.process import running
from tests.service.test_following_orders import BODY
from tests.support import eventually

CONFIGURATION = """\
listeners.ssl.1 = 127.0.0.1:{amqps}
ssl_options.cacertfile = {folder}/ca.pem
ssl_options.certfile = {folder}/server.pem
ssl_options.keyfile = {folder}/server.key
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = false
management.ssl.ip = 127.0.0.1
management.ssl.port = {https}
management.ssl.cacertfile = {folder}/ca.pem
management.ssl.certfile = {folder}/server.pem
management.ssl.keyfile = {folder}/server.key
"""


@dataclass(frozen=True)
class TlsBroker:
    """A node that speaks TLS; `folder` holds its authority and another one."""

    node: PrivateBroker
    folder: Path
    amqps: int
    https: int

    def settings(self, host: str = "localhost", query: str = "", vhost: str = "%2F") -> BrokerSettings:
        return BrokerSettings(
            rabbitmq_url=f"amqps://guest:guest@{host}:{self.amqps}/{vhost}{query}",
            rabbitmq_management_url=f"https://guest:guest@{host}:{self.https}{query}",
            retry_delays_seconds=(0.2, 0.5),
        )

    def trusting(self, authority: str, host: str = "localhost", vhost: str = "%2F") -> BrokerSettings:
        return self.settings(host, f"?cafile={quote(str(self.folder / authority))}", vhost)


@pytest_asyncio.fixture(scope="module")
async def tls_broker(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TlsBroker]:
    folder = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    server, client = authority.issue_cert("localhost"), authority.issue_cert("ada@example.com")
    for name, cert in (("server", server), ("client", client)):
        cert.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        for part in cert.cert_chain_pems:
            part.write_to_path(str(folder / f"{name}.pem"), append=True)
    amqps, https = free_ports(2)
    lines = CONFIGURATION.format(folder=folder, amqps=amqps, https=https)
    async with PrivateBroker(tmp_path_factory.mktemp("tls-broker"), configuration=lines) as node:
        yield TlsBroker(node, folder, amqps, https)
        await node.kill()


async def connect(settings: BrokerSettings) -> None:
    connection = await Connection.open(settings.rabbitmq_url, "test")
    await connection.close()


async def ask(settings: BrokerSettings) -> object:
    async with Management(settings) as management:
        return await management.find("overview")


async def test_what_the_url_trusts_is_trusted_over_both(tls_broker: TlsBroker) -> None:
    settings = tls_broker.trusting("ca.pem")
    await connect(settings)
    assert await ask(settings)


@pytest.mark.parametrize(
    ("authority", "host", "why"),
    [
        ("", "localhost", "certificate verify failed"),
        ("", "127.0.0.1", "certificate verify failed"),
        ("other-ca.pem", "localhost", "certificate verify failed"),
        ("other-ca.pem", "127.0.0.1", "certificate verify failed"),
        ("ca.pem", "127.0.0.1", r"certificate is not valid for '127\.0\.0\.1'"),
    ],
)
async def test_a_broker_that_is_not_trusted_is_refused_with_the_reason(
    tls_broker: TlsBroker, authority: str, host: str, why: str
) -> None:
    settings = tls_broker.trusting(authority, host) if authority else tls_broker.settings(host)
    with pytest.raises(BrokerUnavailable, match=why):
        await connect(settings)
    with pytest.raises(ManagementUnavailable, match=why):
        await ask(settings)


async def test_an_expired_certificate_is_refused_with_the_reason(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC)).configure_cert(context)
    async with await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context) as old:
        port = old.sockets[0].getsockname()[1]
        with pytest.raises(BrokerUnavailable, match="certificate has expired"):
            await Connection.open(f"amqps://localhost:{port}/?cafile={quote(str(tmp_path / 'ca.pem'))}", "test")


async def test_a_client_certificate_is_presented(tls_broker: TlsBroker) -> None:
    folder = tls_broker.folder
    files = TlsFiles(str(folder / "ca.pem"), str(folder / "client.pem"), str(folder / "client.key"))
    settings = tls_broker.settings(query=files.as_query())
    connection = await Connection.open(settings.rabbitmq_url, "test with a certificate")

    async def is_known() -> bool:
        async with Management(settings) as management:
            connections = await management.find("connections") or []
        return any("trustme" in str(each.get("peer_cert_subject")) for each in connections)

    try:
        await eventually(is_known, expecting="the broker to know whose certificate it is")
    finally:
        await connection.close()


async def test_plain_text_on_a_tls_port_and_tls_on_a_plain_one_get_clear_errors(tls_broker: TlsBroker) -> None:
    plain = BrokerSettings(rabbitmq_url=f"amqp://guest:guest@localhost:{tls_broker.amqps}/")
    with pytest.raises(BrokerUnavailable, match=r"if that port speaks TLS, write amqps://"):
        await connect(plain)
    ca = quote(str(tls_broker.folder / "ca.pem"))
    reversed_ = BrokerSettings(rabbitmq_url=f"amqps://guest:guest@localhost:{tls_broker.node.amqp_port}/?cafile={ca}")
    with pytest.raises(BrokerUnavailable, match=r"SSL: WRONG_VERSION_NUMBER"):
        await connect(reversed_)


async def test_a_service_works_over_tls_and_the_command_line_too(tls_broker: TlsBroker, tmp_path: Path) -> None:
    settings = tls_broker.trusting("ca.pem", vhost="over%2Ftls")
    addresses = {"RABBITMQ_URL": settings.rabbitmq_url, "RABBITMQ_MANAGEMENT_URL": settings.management_url}
    applied = await order_rail("topology", "apply", **addresses, RETRY_DELAYS_SECONDS="0.2,0.5")
    assert applied.status == 0, applied.errors
    async with running("order_service", settings, tmp_path) as service:
        assert (await service.http.post("/orders", json=BODY)).status_code == 202

        async def published() -> bool:
            return await service.metric("outbox_pending") == 0

        await eventually(published, expecting="the event to be published over TLS")
    async with Management(settings) as management:
        queue = await management.find("queues", settings.vhost, "payment_service.charge")
    assert queue["name"] == "payment_service.charge"
    assert amqp_url(settings.rabbitmq_url).vhost == "over/tls"


async def test_a_service_that_does_not_trust_the_broker_says_so(tls_broker: TlsBroker, tmp_path: Path) -> None:
    settings = tls_broker.trusting("other-ca.pem")
    async with running("order_service", settings, tmp_path, until="/livez") as service:

        async def says_why() -> bool:
            answer = await service.http.get("/readyz")
            return answer.status_code == 503 and "certificate verify failed" in answer.text

        await eventually(says_why, expecting="the reason in /readyz")
        assert "certificate verify failed" in service.log.read_text()


async def test_an_authority_that_vanishes_is_a_broker_that_is_away(tls_broker: TlsBroker) -> None:
    copy = tls_broker.folder / "copy.pem"
    copy.write_bytes((tls_broker.folder / "ca.pem").read_bytes())
    settings = tls_broker.trusting("copy.pem")
    copy.unlink()
    with pytest.raises(BrokerUnavailable, match=r"cafile .*copy.pem can't be used: No such file"):
        await connect(settings)


async def test_the_topology_is_applied_over_tls(tls_broker: TlsBroker) -> None:
    settings = tls_broker.trusting("ca.pem", vhost="topology")
    assert await provision.apply(settings)
    assert not await provision.apply(settings)
