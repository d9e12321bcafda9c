"""A broker that tests share, and virtual hosts in it so that they never meet other data."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from shared.management import Management
from shared.settings import BrokerSettings, delays_variables
from shared.topology import provision

DELAYS_VARIABLES = tuple(delays_variables())
RETRY_DELAYS_SECONDS = (0.2, 0.5)
QUICK_RETRIES = dict.fromkeys(DELAYS_VARIABLES, "0.2,0.5")


@dataclass(frozen=True)
class Broker:
    """A broker that tests must not break: the AMQP URL of one of its virtual hosts, and its management HTTP API."""

    url: str
    management_url: str

    def amqp_url(self, vhost: str = "/") -> str:
        """The AMQP URL of a virtual host."""
        return urlsplit(self.url)._replace(path="/" + quote(vhost, safe="")).geturl()


@asynccontextmanager
async def virtual_host(broker: Broker, **more: object) -> AsyncIterator[BrokerSettings]:
    """A new virtual host with the topology applied; it is deleted afterwards. `more`: further settings."""
    vhost = f"test-{uuid.uuid4().hex[:12]}"
    settings = BrokerSettings.model_validate(
        {
            "rabbitmq_url": broker.amqp_url(vhost),
            "rabbitmq_management_url": broker.management_url,
            **{name.lower(): RETRY_DELAYS_SECONDS for name in DELAYS_VARIABLES},
            **more,
        }
    )
    await provision.apply(settings)
    yield settings
    async with Management(settings) as management:
        await management.delete("vhosts", vhost)


def addresses_of(settings: BrokerSettings) -> dict[str, str]:
    """The environment variables that lead to a broker."""
    return {"RABBITMQ_URL": settings.rabbitmq_url, "RABBITMQ_MANAGEMENT_URL": settings.management_url}
