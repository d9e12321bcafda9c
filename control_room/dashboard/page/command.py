"""`order-rail control-room`: the page for a system that runs elsewhere, such as in containers."""

import asyncio
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import AfterValidator, Field, create_model
from pydantic_settings import BaseSettings, SettingsConfigDict

from control_room.dashboard.settings import check_settings
from control_room.operations.addresses import (
    ENVIRONMENT_FILE,
    NotRunning,
    SystemAddresses,
    discards_beside,
    find_system,
)
from control_room.signals import run_until_signal
from shared.contract import services
from shared.observability.logging import configure as configure_logging
from shared.settings import load
from shared.urls import public_url


class _PageSettings(BaseSettings):
    """Where the page is served, and whether it may send commands to the services."""

    model_config = SettingsConfigDict(env_ignore_empty=True)

    http_host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=1, le=65535)
    controls_enabled: bool = False

    @property
    def public_urls(self) -> dict[str, str]:
        """Where browsers reach the services that have a page, by name; empty for their own addresses."""
        return {each.name: getattr(self, each.page.variable.lower()) for each in services() if each.page}


def _with_public_urls() -> type[_PageSettings]:
    """With a field for each service that has a page for people."""
    fields: dict[str, Any] = {
        each.page.variable.lower(): (Annotated[str, AfterValidator(public_url)], "") for each in services() if each.page
    }
    return create_model("PageSettings", __base__=_PageSettings, **fields)


def control_room(
    environment_file: Annotated[
        Path | None, typer.Option(help=f"Says where the system is. Default: {ENVIRONMENT_FILE}.")
    ] = None,
) -> None:
    """Show a running system live, on http://HTTP_HOST:HTTP_PORT, until Ctrl-C. `order-rail up` has it built in.

    With CONTROLS_ENABLED=true services can be stopped and slowed down there, if it is set for them, too. A
    service's page is linked at its address, unless the variable in its contract says where browsers reach it.
    """
    configure_logging("control_room", os.environ.get("LOG_FORMAT", "console"))
    settings = load(_with_public_urls())
    check_settings()
    try:
        addresses = find_system(environment_file)
        run_until_signal(_serve(settings, addresses, discards_beside(environment_file)))
    except (NotRunning, OSError) as error:
        typer.echo(f"The control room could not be opened: {error}", err=True)
        raise typer.Exit(1) from None


async def _serve(settings: _PageSettings, addresses: SystemAddresses, journal: Path) -> None:
    # NiceGUI takes a second to import: other commands do without.
    from control_room.dashboard.page.opening import opened  # noqa: PLC0415
    from control_room.dashboard.page.server import serving  # noqa: PLC0415
    from control_room.dashboard.process_control.exchange import ExchangeControl  # noqa: PLC0415
    from control_room.dashboard.snapshots.observer import watching  # noqa: PLC0415

    async with watching(addresses) as observer:
        control = ExchangeControl(observer.services, observer.management) if settings.controls_enabled else None
        async with (
            opened(addresses, journal, observer, control, public_urls=settings.public_urls) as room,
            serving(room, settings.http_host, settings.http_port),
        ):
            await asyncio.Event().wait()
