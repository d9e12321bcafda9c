"""RABBITMQ_URL: one reading for all parts, the same as pika's own, and nothing that two could read differently."""

import re
from pathlib import Path
from urllib.parse import quote, urlsplit

import pika
import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.amqp_url import amqp_url, amqp_urls, node_urls
from shared.messaging.connection import _parameters
from shared.settings import BrokerSettings, wrong_variables

GUEST = ("guest", "guest")
ACCEPTED = [
    ("amqp://h", (False, "h", 5672, *GUEST, "/")),
    ("amqp://h/", (False, "h", 5672, *GUEST, "/")),
    ("amqp://h:5673/%2F", (False, "h", 5673, *GUEST, "/")),
    ("amqp://h/%2f", (False, "h", 5672, *GUEST, "/")),
    ("amqp://h/shop", (False, "h", 5672, *GUEST, "shop")),
    ("amqp://h/a%2Fb", (False, "h", 5672, *GUEST, "a/b")),
    ("amqp://h/a%252Fb", (False, "h", 5672, *GUEST, "a%2Fb")),
    ("amqp://h/stra%C3%9Fe%20%23%3F", (False, "h", 5672, *GUEST, "straße #?")),
    ("amqp://h/a+b", (False, "h", 5672, *GUEST, "a+b")),
    ("amqps://h", (True, "h", 5671, *GUEST, "/")),
    ("AMQPS://h", (True, "h", 5671, *GUEST, "/")),
    ("amqp://[::1]/", (False, "::1", 5672, *GUEST, "/")),
    ("amqp://ada:pw@[2001:db8::1]:5673/x", (False, "2001:db8::1", 5673, "ada", "pw", "x")),
    ("amqp://a%40b:%40%3A%2F%25%2B+%23%3F@h/x", (False, "h", 5672, "a@b", "@:/%++#?", "x")),
    ("amqp://ada:a:b@h", (False, "h", 5672, "ada", "a:b", "/")),
    ("amqp://ada:@h", (False, "h", 5672, "ada", "", "/")),
    ("amqp://ada:$!&'()*,;=~@h", (False, "h", 5672, "ada", "$!&'()*,;=~", "/")),
    ("amqp://h/x?heartbeat=7", (False, "h", 5672, *GUEST, "x")),
    ("amqp://h?heartbeat=0", (False, "h", 5672, *GUEST, "/")),
]
REFUSED = [
    ("amqp://h/a/b", "write %2F"),
    ("amqp://h/a/", "write %2F"),
    ("amqp://h//", "write %2F"),
    ("amqp://h//a", "write %2F"),
    ("amqp://ada@h", "a user and a password"),
    ("amqp://:MARKER@h", "a user and a password"),
    ("amqp://ada:half@MARKER@h", "one @ at most; in a user or password write %40"),
    ("amqp://ada:half/MARKER@h", "write %40 for @, %2F for /"),
    ("amqp://ada:12/MARKER@h", "write %40 for @, %2F for /"),
    ("amqp://ada:12#MARKER@h", "%23 for #"),
    ("amqp://ada:12?MARKER@h", r"%3F for \?"),
    ("amqp://h/a b", "percent-encode"),
    ("amqp://h/a\nb", "percent-encode"),
    (" amqp://h", "percent-encode"),
    ("amqp://h#x", "nothing behind a #"),
    ("amqp://h?password=MARKER", "after the ? there may be heartbeat=..., cafile=".replace("?", r"\?")),
    ("amqp://h?heartbeat=5&heartbeat=6", r"after the \?"),
    ("amqp://h?heartbeat", r"after the \?"),
    ("amqp://h?ssl_options=None", r"after the \?"),
    ("amqp://h?heartbeat=often", "heartbeat=<seconds>"),
    ("amqp://h?heartbeat=-1", "heartbeat=<seconds>"),
    ("amqp://h?heartbeat=70000", "at most 65535"),
    ("amqp://h?cafile=/etc/ca.pem", "are for a URL with TLS"),
    ("amqps://h?cafile=/no/such/file.pem", "cafile /no/such/file.pem can't be used: No such file"),
    ("amqps://h?keyfile=/no/such/file.pem", "the key of a certfile"),
    ("amqp://", "expected amqp://"),
    ("amqp://:5672", "expected amqp://"),
    ("amqp://[::1", "expected amqp://"),
    ("http://h", "expected amqp://"),
    ("h:5672", "expected amqp://"),
    ("amqp:h", "expected amqp://"),
]


@pytest.mark.parametrize(("url", "meaning"), ACCEPTED)
def test_a_url_means_the_same_to_every_part_and_to_pika(url: str, meaning: tuple[object, ...]) -> None:
    (ours,) = BrokerSettings(rabbitmq_url=url).amqp
    assert (ours.is_tls, ours.host, ours.port, ours.user, ours.password, ours.vhost) == meaning
    for theirs in (_parameters(url, "test"), pika.URLParameters(url)):
        credentials = theirs.credentials
        assert (
            theirs.ssl_options is not None, theirs.host, theirs.port, credentials.username, credentials.password,
            theirs.virtual_host,
        ) == meaning  # fmt: skip


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@settings(deadline=None)  # of a loaded machine's
@given(user=TEXT, password=TEXT, vhost=TEXT)
def test_any_user_password_and_virtual_host_can_be_written(user: str, password: str, vhost: str) -> None:
    name, secret, host = (quote(each, safe="") for each in (user, password, vhost))
    url = f"amqp://{name}:{secret}@h/{host}"
    ours, theirs = amqp_url(url), pika.URLParameters(url)
    assert (ours.user, ours.password, ours.vhost) == (user, password, vhost)
    assert (theirs.credentials.username, theirs.credentials.password, theirs.virtual_host) == (user, password, vhost)


@pytest.mark.parametrize(("url", "why"), REFUSED)
def test_what_two_could_read_differently_is_refused_without_showing_it(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refused:
        amqp_url(url)
    assert "MARKER" not in str(refused.value)
    assert "half" not in str(refused.value)


@pytest.mark.parametrize("url", [url for url, _ in ACCEPTED])
def test_a_single_url_is_taken_as_it_is_whatever_commas_it_has(url: str) -> None:
    assert node_urls(url) == [url]
    assert amqp_urls(url) == [amqp_url(url)]


@pytest.mark.parametrize("separator", [",", ", ", ",\n"])
def test_several_urls_are_the_nodes_of_one_cluster(separator: str) -> None:
    urls = ["amqp://ada:$!&'()*,;=~@one/x", "AMQPS://two:7/x", "amqp://[::1]/x?heartbeat=3"]
    settings = BrokerSettings(rabbitmq_url=separator.join(urls))
    assert settings.amqp == [amqp_url(url) for url in urls]
    assert settings.vhost == "x"
    assert [urlsplit(url).hostname for url in settings.management_urls] == ["one", "two", "::1"]


@pytest.mark.parametrize(
    ("urls", "why"),
    [
        ("amqp://h/x,amqp://i/y", "RABBITMQ_URL: .*URL 2 of 2 has another virtual host than the first"),
        ("amqp://h/x,amqp://i/x,amqp://j", "RABBITMQ_URL: .*URL 3 of 3 has another virtual host"),
        ("amqp://h,amqp://ada:half@MARKER@i", "RABBITMQ_URL: .*URL 2 of 2: expected .* one @ at most"),
        ("amqp://ada:MARKER@h:1,i:2", "RABBITMQ_URL: .*expected amqp://"),
        ("amqp://ada:MARKER@h,i", "RABBITMQ_URL: .*write each of several URLs whole"),
        ("amqp://ada:MARKER@h,http://i", "RABBITMQ_URL: .*expected"),
    ],
)
def test_a_wrong_list_names_the_variable_and_the_url_and_shows_no_password(urls: str, why: str) -> None:
    with pytest.raises(ValidationError) as refused:
        BrokerSettings(rabbitmq_url=urls)
    sentence = wrong_variables(refused.value)
    assert re.match(why, sentence), sentence
    assert "MARKER" not in sentence


def test_a_wrong_list_of_management_urls_names_the_variable() -> None:
    with pytest.raises(ValidationError) as refused:
        BrokerSettings(rabbitmq_management_url="http://one:15672,http://ada:MARKER@two:port")
    sentence = wrong_variables(refused.value)
    assert sentence.startswith("RABBITMQ_MANAGEMENT_URL: Value error, URL 2 of 2: expected http://")
    assert "MARKER" not in sentence


def test_nodes_of_one_host_have_one_management_api_unless_it_is_named() -> None:
    nodes = "amqp://h:5672,amqp://h:5673"
    assert BrokerSettings(rabbitmq_url=nodes).management_urls == ["http://guest:guest@h:15672"]
    named = BrokerSettings(rabbitmq_url=nodes, rabbitmq_management_url="http://h:1,https://h:2")
    assert named.management_urls == ["http://h:1", "https://h:2"]
    assert [named.management_tls(url) is not None for url in named.management_urls] == [False, True]


def test_its_representation_hides_the_password() -> None:
    assert "s3cret" not in repr(amqp_url("amqp://ada:s3cret@h"))


@pytest.mark.parametrize(
    ("url", "management"),
    [
        ("amqp://h", "http://guest:guest@h:15672"),
        ("amqps://h", "https://guest:guest@h:15671"),
        ("amqps://h:5673/x", "https://guest:guest@h:15671"),
        ("amqp://ada:p%40ss@mq:5672/x", "http://ada:p%40ss@mq:15672"),
        ("amqp://ada:a:b@[::1]/x", "http://ada:a%3Ab@[::1]:15672"),
    ],
)
def test_the_management_api_is_found_at_the_same_host_as_well_protected(url: str, management: str) -> None:
    assert BrokerSettings(rabbitmq_url=url).management_url == management
    assert BrokerSettings(rabbitmq_url=url, rabbitmq_management_url="https://mq").management_url == "https://mq"


@pytest.fixture(scope="module")
def cafile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("with space + plus") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(file))
    return file


def test_the_authority_that_the_url_names_is_trusted_for_both(cafile: Path) -> None:
    url = f"amqps://h?cafile={quote(str(cafile))}"
    broker = BrokerSettings(rabbitmq_url=url)
    assert broker.amqp[0].tls.cafile == str(cafile)
    assert broker.management_url.startswith("https://guest:guest@h:15671?cafile=")
    from_launcher = BrokerSettings(rabbitmq_management_url=broker.management_url)
    other_host = BrokerSettings(rabbitmq_url=url, rabbitmq_management_url="https://other")
    for each in (broker, from_launcher, other_host):
        tls = each.management_tls(each.management_url)
        assert tls is not None
        assert any("trustme" in str(ca["subject"]) for ca in tls.get_ca_certs())


@pytest.mark.parametrize("text", ["no certificate", ""])
def test_a_file_that_holds_no_certificate_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(text)
    with pytest.raises(ValueError, match=r"cafile .*/ca.pem can't be used: NO_CERTIFICATE_OR_CRL_FOUND"):
        amqp_url(f"amqps://h?cafile={tmp_path}/ca.pem")


def test_a_management_url_without_tls_names_no_authority(cafile: Path) -> None:
    with pytest.raises(ValueError, match="are for a URL with TLS"):
        BrokerSettings(rabbitmq_management_url=f"http://h?cafile={quote(str(cafile))}")
