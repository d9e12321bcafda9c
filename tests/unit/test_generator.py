"""What `order-rail new` refuses, and what it makes of a name. test_a_fourth_service.py runs what it writes."""

import subprocess
from pathlib import Path
from typing import get_args

import pytest

from control_room.generator import channel, deployment, event
from control_room.generator import checkout as module
from control_room.generator.checkout import ROOT, Refused, check_registered, checkout, write_all
from control_room.generator.deployment import Deployed
from control_room.generator.event import class_name
from control_room.generator.service import checked, edits, files
from shared.contract import GROUP, queues_taking, services
from shared.events import ChannelName, PaymentSucceeded

PAID = "payment.succeeded.v1"


@pytest.mark.parametrize(
    ("name", "on", "publishes", "reason"),
    [
        ("Loyalty", PAID, "", "'Loyalty' is no name of a service"),
        ("loyalty-card", PAID, "", "'loyalty-card' is no name of a service"),
        ("l" * 41, PAID, "", "at most 40"),
        ("class", PAID, "", "'class' is no name of a service"),
        ("../loyalty", PAID, "", "is no name of a service"),
        ("payment", PAID, "", "there is a payment_service already"),
        ("payment_service", PAID, "", "there is a payment_service already"),
        ("store", PAID, "", "'store' is the name of something else"),
        ("diary", PAID, "", "'diary' is the name of something else"),
        ("zebra", "payment.succeeded", "", "no service publishes 'payment.succeeded'; expected one of"),
        ("zebra", "zebra.seen.v1", "", "no service publishes 'zebra.seen.v1'"),
        ("zebra", PAID, "LoyaltyEarned", "'LoyaltyEarned' is no type of an event; expected such as"),
        ("zebra", PAID, "payment.declined.v1", "the event payment.declined.v1 exists already"),
        ("payments", PAID, "payments.seen.v1", "the exchange 'payments' is another service's"),
    ],
)  # fmt: skip
def test_what_can_not_be_is_refused_with_what_is_expected(name: str, on: str, publishes: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        checked(name, on, publishes, services())
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("event_type", "by", "reason"),
    [
        ("PaymentDisputed", "payment", "'PaymentDisputed' is no type of an event; expected such as"),
        ("payment.disputed", "payment", "'payment.disputed' is no type of an event"),
        ("payment.declined.v1", "payment", "the event payment.declined.v1 exists already"),
        ("payment_declined.v1", "payment", "is no type of an event"),
        ("payment.declined_data.v1", "payment", "there is a class PaymentDeclinedData already"),
        ("order.item.v1", "order", "there is a class OrderItem already"),
        ("money.spent.v1", "kitchen", "no service 'kitchen' that publishes anything is registered; expected one"),
    ],
)
def test_an_event_that_can_not_be_is_refused_with_what_is_expected(event_type: str, by: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        event.checked(event_type, by, services())
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("name", "like", "reason"),
    [
        ("chat", "telegraph", "there is no channel 'telegraph'; expected one of email, "),
        ("Chat", "push", "'Chat' is no name of a channel; expected a-z"),
        ("chat-room", "push", "'chat-room' is no name of a channel"),
        ("sms", "push", "there is a channel sms already"),
        ("database", "push", "DATABASE_URL is the address of something else"),
    ],
)
def test_a_channel_that_can_not_be_is_refused_with_what_is_expected(name: str, like: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        channel.checked(name, like, services())
    assert reason in str(refused.value)


@pytest.mark.parametrize("like", get_args(ChannelName))
def test_every_channel_can_be_copied(like: str) -> None:
    new = channel.checked("night_shift", like, services())
    edited = channel.edits(new, ROOT)
    assert [text.lower().count("night_shift") > 0 for text in edited.values()] == [True] * len(channel.LINES)
    assert channel.files(new, ROOT)


def test_a_channel_is_written_where_nothing_is_deployed(tmp_path: Path) -> None:
    for each in ROOT.iterdir():
        if each.name not in ("deploy", "docker-compose.yml"):
            (tmp_path / each.name).symlink_to(each)
    edited = channel.edits(channel.checked("chat", "push", services()), tmp_path)
    assert len(edited) == len([file for file in channel.LINES if not file.startswith(("deploy", "docker"))])


def test_a_second_version_of_an_event_is_a_class_beside_the_first_and_reaches_the_same_queues() -> None:
    new = event.checked("payment.succeeded.v2", "payment_service", services())
    written = event.edits(new, ROOT)["shared/events/payments.py"]
    assert "class PaymentSucceeded(Event)" in written
    assert "class PaymentSucceededV2(Event)" in written
    reached = event.takers(new, services())
    assert reached["order_service.track"] == "order_service"
    assert queues_taking(PaymentSucceeded).keys() < reached.keys()


def test_an_event_is_listed_behind_the_last_one_whatever_comments_there_are() -> None:
    new = event.checked("order.lost.v1", "order", services())
    listed = "publishes=(\n    A,  # the first (old)\n    B,  # the last (new)\n)"
    assert "    B, OrderLost,  # the last (new)\n)" in event._published(
        new, f"import x\nx.y({listed})\n", "shared.events"
    )
    for contract in ("x.y(publishes=EVENTS)", "x.y(publishes=())", "x.y()"):
        with pytest.raises(Refused, match=r"contract\.py has no `publishes="):
            event._published(new, contract, "shared.events")


def test_the_class_of_an_event_is_its_type_in_one_word() -> None:
    types = ("loyalty.earned.v1", "gift_cards.issued.v2")
    assert [class_name(each) for each in types] == ["LoyaltyEarned", "GiftCardsIssuedV2"]


def test_outside_of_a_checkout_and_in_another_one_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused, match=r"this needs a clone of Order Rail, and git says: fatal: not a git repository"):
        checkout()
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    with pytest.raises(Refused, match="this order-rail belongs to"):
        checkout()


def test_a_tree_with_uncommitted_changes_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("tests/examples", "control_room"):
        (tmp_path / folder).mkdir(parents=True)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path / "tests")
    assert checkout() == tmp_path
    (tmp_path / "control_room/new.py").touch()
    with pytest.raises(Refused, match="there are uncommitted changes"):
        checkout()


def test_a_service_that_is_written_and_not_registered_comes_first(tmp_path: Path) -> None:
    lines = [f'{name} = "{name}.contract:CONTRACT"' for name in ("payment_service", "zebra_service")]
    (tmp_path / "pyproject.toml").write_text("\n".join([f'[project.entry-points."{GROUP}"]', *lines]))
    with pytest.raises(Refused, match="zebra_service is not registered yet: `make generate`, and commit"):
        check_registered(tmp_path, services())
    check_registered(ROOT, services())


def test_a_file_that_exists_is_kept_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "b").touch()
    with pytest.raises(Refused, match="b exists already"):
        write_all(tmp_path, {"a": "1", "b": "2"}, {"c": "3"})
    assert [file.name for file in tmp_path.iterdir()] == ["b"]


def test_what_can_not_be_written_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "shared").write_text("before")
    with pytest.raises(Refused, match="shared can't be written: "):
        write_all(tmp_path, {"a": "1", "shared/b": "2"}, {"shared": "after"})
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"shared": "before"}


def test_a_file_without_the_service_before_is_named() -> None:
    with pytest.raises(Refused, match=r"pyproject\.toml has nothing like .*nobody_service"):
        deployment.edited(ROOT, Deployed("nobody_service", 1), Deployed("new", 2))


@pytest.mark.parametrize("publishes", ["", "zebra.seen.v1"])
def test_nothing_of_the_example_is_left(publishes: str) -> None:
    new = checked("zebra", "order.placed.v1", publishes, services())
    written = files(new, ROOT) | edits(new, services()[-1], ROOT)
    for name, text in written.items():
        for word in ("diary", "herald", "Diary", "Herald", "DIARY"):
            assert word not in name + text, name
    assert "PaymentSucceeded" not in "".join(text for name, text in written.items() if "zebra" in name)
    assert ("shared/events/zebra.py" in written) == bool(publishes)
