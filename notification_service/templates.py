"""The words of notices: Jinja2 templates in one folder, `templates/` or that of TEMPLATES_FOLDER.

`<channel>/<kind>.txt` is the text. It may begin with a line `Subject: ...` and an empty line, as a mail does. For mail
`email/<kind>.html` is the same as HTML, where values are escaped.
"""

import traceback
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import (
    Environment,
    FileSystemLoader,
    StrictUndefined,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
    select_autoescape,
)

from notification_service.notifications import KINDS, Notice, amount
from shared.events import ChannelName, Money, NoticeKind, OrderItem, OrderSummary
from shared.messaging.retry import PermanentError

FOLDER = Path(__file__).parent / "templates"
SUBJECT = "Subject:"

_FAILURES = (TemplateError, ArithmeticError, AttributeError, LookupError, OSError, TypeError, ValueError)
"""What loading and rendering a template raise: the operators and filters in it are Python's."""


@dataclass(frozen=True, slots=True)
class Words:
    """A notice in words. `subject` is one line, and empty where the channel has none; so is `html`."""

    subject: str
    text: str
    html: str = ""


class Templates:
    """The templates of a folder. Raises `ValueError`, naming file and line, if one of them is missing or broken."""

    def __init__(self, folder: str = "") -> None:
        self._folder = Path(folder) if folder else FOLDER
        if not self._folder.is_dir():
            raise ValueError(f"expected a folder with templates, and {self._folder} is none")
        self._environment = Environment(
            loader=FileSystemLoader(self._folder), undefined=StrictUndefined, auto_reload=False,
            autoescape=select_autoescape(["html"], default=False),
            trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
        )  # fmt: skip
        for channel, kinds in KINDS.items():
            for kind in kinds.values():
                self._try(_sample(channel, kind))

    def words(self, notice: Notice) -> Words:
        """Raises `PermanentError` if a template fails with this notice's values."""
        text_file, html_file = _files(notice)
        subject, text = _split(self._rendered(text_file, notice))
        html = self._rendered(html_file, notice) if html_file else ""
        return Words(subject, text, html)

    def _try(self, sample: Notice) -> None:
        try:
            words = self.words(sample)
        except PermanentError as error:
            raise ValueError(str(error)) from None
        file = f"the template {_files(sample)[0]} in {self._folder}"
        if not words.text.strip():
            raise ValueError(f"{file} has no text")
        if sample.channel == "email" and not words.subject:
            raise ValueError(f"{file} has no first line such as `{SUBJECT} Your order`")

    def _rendered(self, file: str, notice: Notice) -> str:
        try:
            return self._environment.get_template(file).render(_values(notice))
        except _FAILURES as error:
            raise PermanentError("template-failed", f"the template {self._what_failed(file, error)}") from error

    def _what_failed(self, file: str, error: Exception) -> str:
        if isinstance(error, TemplateNotFound):
            return f"{error.name} is missing in {self._folder}"
        if isinstance(error, TemplateSyntaxError):
            return f"{error.name or file} in {self._folder}, line {error.lineno}: {error.message}"
        last = traceback.extract_tb(error.__traceback__)[-1]  # Jinja2 writes templates' own lines into tracebacks
        line = f", line {last.lineno}" if last.filename.startswith(str(self._folder)) else ""
        return f"{file} in {self._folder}{line}: {error}"


@cache
def templates_in(folder: str) -> Templates:
    """One object for all channels: it takes a moment to make."""
    return Templates(folder)


def _files(notice: Notice) -> tuple[str, str]:
    path = f"{notice.channel}/{notice.kind}"
    return f"{path}.txt", f"{path}.html" if notice.channel == "email" else ""


def _split(rendered: str) -> tuple[str, str]:
    """The subject, as one line whatever was put into it, and the text after it."""
    if not rendered.startswith(SUBJECT):
        return "", rendered.strip("\n")
    subject, _, text = rendered.partition("\n")
    return " ".join(subject.removeprefix(SUBJECT).split()), text.removeprefix("\n")


def _values(notice: Notice) -> dict[str, Any]:
    """What a template may use."""
    order = notice.order
    items = [
        {"quantity": item.quantity, "name": item.name, "price": amount(item.unit_price, item.quantity)}
        for item in order.items
    ]
    return {
        "order_id": notice.order_id, "recipient": notice.recipient, "items": items, "total": amount(order.total),
        "amount": amount(notice.amount), "reason": notice.reason,
    }  # fmt: skip


def _sample(channel: ChannelName, kind: NoticeKind) -> Notice:
    price = Money(amount_minor=950, currency="EUR")
    items = (OrderItem(sku="sample", name="Pizza", quantity=1, unit_price=price),)
    order = OrderSummary(customer_email="ada@example.com", items=items, total=price)
    return Notice("an-order", channel, kind, "a recipient", order, price, "a reason")
