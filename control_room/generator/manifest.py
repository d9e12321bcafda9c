"""What `order-rail new project` takes of this repository, as data: what is copied, left out, edited and added."""

import re

from control_room.generator.edits import Edit, replaced, without_lines, without_modules, without_paragraphs, words

TAKEN = (
    *("shared", "control_room", "deploy", "docs/generate.py", ".devcontainer", ".github", "tests/__init__.py"),
    *("docker-compose.yml", "Dockerfile", "Makefile", "pyproject.toml", "requirements.txt", "requirements-dev.txt"),
    *(".dockerignore", ".gitignore", "LICENSE", "tests/unit/test_registered_services.py", "tests/examples"),
)
"""Files and folders."""

MODULES_LEFT_OUT = (
    "control_room.analytics",
    "control_room.dashboard.page.analytics",
    "control_room.dashboard.page.audit",
    "control_room.dashboard.page.order",
    "control_room.dashboard.page.quests",
    "control_room.dashboard.page.scenarios",
    "control_room.dashboard.snapshots.auditing",
    "control_room.experiments",
    "control_room.generator.channel",
    "control_room.generator.channel_command",
    "control_room.generator.edits",
    "control_room.generator.manifest",
    "control_room.generator.project",
    "control_room.generator.requirements",
    "control_room.operations.audit",
    "control_room.operations.causal_order",
    "control_room.operations.order_history",
    "control_room.operations.roles",
    "docs.figures",
    "shared.events.notifications",
    "shared.events.orders",
    "shared.events.payments",
    "shared.mailbox",
)
"""They are about orders, or make a project themselves. Where others import them, see `REGISTRIES`."""

TEMPLATES = "tests/examples/project"
"""What a project has in place of ours, and beside it. `<name>`, `<title>`, `<origin>` and `<version>` are filled in."""

SERVICE = "greeting_service"
EXAMPLE, EXAMPLE_TEST = f"tests/examples/services/{SERVICE}", f"tests/examples/test_{SERVICE}.py"
"""The example that becomes the service of the project."""
PORT = 8000
CAUSE = "greeting.written.v1", "GreetingWritten"
"""What the examples that `order-rail new service` copies take in the project."""

FILES_LEFT_OUT = (
    *("deploy/kubernetes", "deploy/small.yml", "deploy/stripe.yml"),
    *(TEMPLATES, EXAMPLE, EXAMPLE_TEST, "tests/examples/services/visits_service"),
)

REGISTRIES = (
    "control_room/cli.py",
    "control_room/dashboard/page/panels.py",
    "control_room/dashboard/settings.py",
    "docs/generate.py",
    "shared/events/__init__.py",
)
"""The files that have a line for each of several things; those that are left out lose theirs."""

KEEPS_OUR_NAME = ("LICENSE", "shared/tuning.py")
"""Elsewhere the project's title stands in place of our name, which Python code takes from one constant."""

SHOP = r"(?i:order|payment|notification)[-_](?i:service)"

EDITS: dict[str, tuple[Edit, ...]] = {
    "docker-compose.yml": (
        words(r"payment_service=3 \(any of the three services, up to 16\)", f"{SERVICE}=3 (any service, up to 16)"),
        words(
            r"SHOP_URL: http://localhost:\$\{ORDER_SERVICE_PORT", "API_URL: http://localhost:${GREETING_SERVICE_PORT"
        ),
        words("This is a demonstration: the control", "For development; false where strangers come: the control"),
        words("run --rm order-rail tour", "run --rm order-rail dead-letters list"),
        words(" # with the audit that runs beside it"),
        words(" # older orders are deleted, in every", " # what is older is deleted, in every"),
        words("discarded dead letters, reports", "discarded dead letters"),
        words(r"      # How a report is had from outside.*?\n.*?\n"),
        without_paragraphs("^  (payment_service|notification_service|maildev):"),
        words(r"^services:\n  order_service:.*?\n\n", "services:\n"),
        words(rf"\b{SHOP}(, | (?=\w))"),
        words(" gateway # of a backup", " # of a backup"),
        without_lines(SHOP),
        without_lines(r"(?i)gateway|(EMAIL|SMS|PUSH|RESTAURANT)_RETRY|TMPDIR"),
    ),
    "deploy/compose.cluster.yml": (without_paragraphs(rf"^  {SHOP}:"), without_lines("docs/cluster.md")),
    "deploy/haproxy/haproxy.cfg": (
        without_paragraphs(rf"^(frontend|backend) {SHOP}"),
        words(rf"\{{ nbsrv\({SHOP}\) eq 0 \}} \|\| "),
        words("the order service\n# takes orders while", "the greeting\n# service takes greetings while"),
        words("none for an order", "none for a request"),
        words("\n# tests/integration/test_front_door.py compares them and tries all of this."),
        words(" The same Idempotency-Key makes another try safe."),
    ),
    "Dockerfile": (words(r"# `--build-arg EXTRAS.*?done\n"),),
    ".dockerignore": (without_lines("stripe"),),
    ".devcontainer/devcontainer.json": (
        words(r"8000, 8001, 8002, 8080", "8000, 8080"),
        words("shop, order service", "greeting service"),
        without_lines('"800[12]": '),
    ),
    "Makefile": (
        without_paragraphs(r"^(demo|chaos|bench|test-newest|docs|test-prerequisites|\.venv/\.docs|\.venv/\.peers):"),
        without_paragraphs(r"^\.venv/localstripe"),
        words(" demo up chaos bench test test-newest check ", " up test check "),
        words(" prerequisites test-prerequisites docs$", " prerequisites"),
        words(r"^# \w+ at a time.*?$\n"),
        words(r" --numprocesses \d --dist loadfile --no-loadscope-reorder"),
        words(" --extra stripe --extra lab"),
        without_lines(r"--group (peers|stripe|localstripe|docs) "),
        words(
            r" \.venv/\.docs \.venv/localstripe/\.installed \| \.venv/\.runtime test-prerequisites", " | .venv/.runtime"
        ),
        words(", the figures and", " and"),
        words(r" \.hypothesis$"),
    ),
    "pyproject.toml": (
        words("^description = .*?$", 'description = "Services that talk to each other only through RabbitMQ"'),
        without_lines("^authors = "),
        without_lines('^    "(aiosmtplib|apprise|jinja2|pygal)",'),
        without_paragraphs(r"^\[project\.optional-dependencies\]"),
        without_lines("^(stripe|docs|localstripe) = "),
        words(r"^peers = \[.*?^\]\n"),
        without_lines('^    "(aiosmtpd|axe-playwright-python|hypothesis|jsonschema|kubernetes-validate|playwright)",'),
        without_lines('^    "(pytest-xdist|schemathesis|trustme|types-jsonschema|types-pyyaml)",'),
        without_lines(f"^{SHOP} = "),
        without_lines(r'^"(benchmarks/\*\*|control_room/operations/audit/\*)" = '),
        words('"benchmarks", '),
        words(r', "pygal\.\*", "schemathesis\.\*", "socketio\.\*", "xdist\.\*"\]', "]"),
        without_paragraphs("the peers and SQS, which|benchmarks.peers"),
        without_lines("^markers = "),
        words(f'"{SHOP}", '),
        without_lines(r"roles -> |operations\.audit\.|experiments\.(chaos|lab)"),
        without_paragraphs("Experiments are for|leaves out is used by itself"),
        words(r', "control_room\.experiments"\]', "]"),
    ),
    "control_room/dashboard/page/page.css": (without_paragraphs(r"/\* (Analytics|Scenarios|Audit|The history of)"),),
    "control_room/dashboard/snapshots/__init__.py": (
        words("`auditing.py` runs the audit in the background,\n`dead_letters.py`", "`dead_letters.py`"),
    ),
    "shared/settings.py": (
        words(r": \[below\]\(#the-brokers-url\)"),
        words(r' "(\n +")\(\[replay\.md\]\(replay\.md\)\)', r'"\1'),
    ),
    "shared/testing/__init__.py": (
        words(r"docs/recipes/test-with-crash-points\.md", f"tests/service/test_{SERVICE}.py"),
    ),
    "control_room/launcher/broker_in_use.py": (words(r" or use it \(.*?\);"),),
    "control_room/operations/backup/command.py": (words(", (start the system), and ask .*? later", r" and \1"),),
    "shared/observability/logging.py": (words(', "stripe"'),),
    "control_room/generator/service.py": (without_lines("in an audit"),),
    "control_room/generator/command.py": (without_lines(r"docs/recipes/"),),
    "shared/events/envelope.py": (words('^SUBJECT = "order"$', 'SUBJECT = "greeting"'),),
}

OURS = replaced(
    [
        (r"\bevent_order_id\b", "event_subject"),
        (r"\b_order_id\b", "_subject"),
        (r"\border_ids\b", "subjects"),
        (r"\border_id\b", "subject"),
        (r"\bOrderId\b", "Subject"),
    ]
)
"""In the chassis and the control room: what an order is here, is the subject of an event there."""

EXAMPLES = replaced(
    [
        (r"payment\.succeeded\.v1", CAUSE[0]),
        (r"payment\.disputed\.v1", "greeting.sent.v1"),
        (r"such as payment\b", "such as greeting"),
        (r"from shared\.events import PaymentSucceeded\b", f"from shared.events.greetings import {CAUSE[1]}"),
        (r"\bPaymentSucceeded\b", CAUSE[1]),
        (r"\border_id\b", "greeting_id"),
        (r"\ban order\b", "a greeting"),
        (r"\border\b(?!-rail)", "greeting"),
    ]
)
"""In the examples that `order-rail new` copies, and in what it says."""


def is_left_out(module: str) -> bool:
    """Whether a module, or what is in one, is left out."""
    return any(f"{module}.".startswith(f"{each}.") for each in MODULES_LEFT_OUT)


def is_taken(file: str) -> bool:
    """Whether a file, given by its path, is copied."""
    module = re.sub(r"(/__init__)?\.\w+$", "", file).replace("/", ".")
    return _under(file, TAKEN) and not _under(file, FILES_LEFT_OUT) and not is_left_out(module)


def _under(file: str, places: tuple[str, ...]) -> bool:
    return any(f"{file}/".startswith(f"{place}/") for place in places)


def edits_of(file: str) -> tuple[Edit, ...]:
    """What is changed in a copied file, in this sequence."""
    registry = (without_modules(is_left_out),) if file in REGISTRIES else ()
    if file.startswith(("tests/examples/", "control_room/generator/")):
        return (*EDITS.get(file, ()), EXAMPLES)
    names = (OURS,) if file.endswith(".py") else ()
    return (*registry, *EDITS.get(file, ()), *names)
