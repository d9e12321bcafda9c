"""`order-rail new project`: a copy of the chassis and the control room, with one example service in place of ours."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from control_room.generator.checkout import ROOT, Refused, git
from control_room.generator.deployment import Deployed, edited
from control_room.generator.edits import Outdated
from control_room.generator.manifest import (
    EXAMPLE,
    EXAMPLE_TEST,
    KEEPS_OUR_NAME,
    PORT,
    SERVICE,
    SHOP,
    TEMPLATES,
    edits_of,
    is_taken,
)
from control_room.generator.requirements import normal, pinned_for
from control_room.text import SYSTEM, counted
from shared.contract import GROUP, services

NAME = re.compile("[a-z][a-z0-9]*(-[a-z0-9]+)*")
MAX_LENGTH = 40
PINS = "requirements.txt", "requirements-dev.txt"
EVENTS = f"{SERVICE}.events", "shared.events.greetings"
"""Where the example has its events, and where a service has them."""
IMPORTS = re.compile(r"(?:^from \S+ import [^(\n]+\n)+", flags=re.MULTILINE)


@dataclass(frozen=True)
class NewProject:
    """`path`: absolute. `name`: of its distribution. `origin`: the commit of ours that it is made of."""

    path: Path
    name: str
    origin: str

    @property
    def title(self) -> str:
        """For people, such as `My shop`."""
        return self.name.replace("-", " ").capitalize()


def project_command(
    path: Annotated[Path, typer.Argument(help="A folder outside of this clone, such as ../my-shop.")],
    name: Annotated[str, typer.Option(help="Of the project, if it is not the folder's.")] = "",
) -> None:
    """Begin a project of your own: the chassis, the control room and one small service, in a repository of its own."""
    try:
        project = checked(path, name)
        count = write(project)
        document(project)
        committed = commit(project)
    except Refused as refused:
        typer.echo(f"No project was made: {refused}.", err=True)
        raise typer.Exit(1) from None
    folder = shlex.quote(str(path)) if " " in str(path) else path
    typer.echo(
        f"{project.title} is in {project.path}: {counted(count, 'file')}, {committed}.\nThen:\n"
        f"  cd {folder}\n"
        f"  {'make up':16}sets it up, and starts RabbitMQ, the greeting service and the control room\n"
        f"  {'make check':16}lint, types, import rules and tests\n"
        "README.md says what is where, and how to add a service."
    )


def checked(path: Path, name: str) -> NewProject:
    """The project that these make. Raises `Refused` with what is wrong, and what is expected."""
    if not (ROOT / TEMPLATES).is_dir():
        raise Refused("this needs a clone of Order Rail: `make up` in it makes .venv/bin/order-rail, which can do this")
    path = path.expanduser().resolve()
    name = name or path.name
    if not NAME.fullmatch(name) or len(name) > MAX_LENGTH:
        expected = f"a-z, 0-9 and single -, at most {MAX_LENGTH} of them, such as my-shop"
        raise Refused(f"{name!r} is no name of a project; expected {expected} (--name, if the folder's is another)")
    if name == "order-rail" or any(re.search(f"(?m)^{name}==", _read(file)) for file in PINS):
        raise Refused(f"{name!r} is the name of a package that is installed beside the project; choose another --name")
    if path.is_relative_to(ROOT.resolve()):
        raise Refused(f"{path} is inside this clone; choose a place outside of it, such as {ROOT.parent / name}")
    if path.exists() and (not path.is_dir() or {each.name for each in path.iterdir()} - {".git"}):
        raise Refused(f"{path} exists, and is not an empty folder; choose another place")
    if added := [each.name for each in services() if not re.fullmatch(SHOP, each.name)]:
        raise Refused(f"this clone has services of its own ({', '.join(added)}); use one of {SYSTEM} as it is")
    return NewProject(path, name, git("describe", "--always", "--dirty", at=ROOT))


def write(project: NewProject) -> int:
    """Write all files; how many they are. Raises `Refused`."""
    sources, texts = _sources(), texts_of(project)
    try:
        for file, source in sources.items():
            target = project.path / file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(texts[file], encoding="utf-8")
            shutil.copymode(ROOT / source, target)
    except OSError as error:
        raise Refused(f"{error.filename} can't be written: {error.strerror}") from None
    return len(sources)


def document(project: NewProject) -> None:
    """Write what is generated from the contracts. Raises `Refused`."""
    with TemporaryDirectory() as registry:
        register(Path(registry), "order-rail")
        command = [sys.executable, "-B", "-m", "docs.generate"]
        ended = subprocess.run(  # noqa: S603
            command,
            cwd=project.path,
            env={"PYTHONPATH": registry},
            capture_output=True,
            text=True,
            check=False,
        )
    if ended.returncode:
        raise Refused(f"docs.generate fails in {project.path}: {ended.stderr.strip()}")


def register(directory: Path, distribution: str) -> None:
    """Write the registry of the project's services, as an installed distribution has it.

    Under the name of ours it hides our services from a process whose PYTHONPATH begins with the directory.
    """
    metadata = directory / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{SERVICE} = {SERVICE}.contract:CONTRACT\n")


def commit(project: NewProject) -> str:
    """Make a repository of it, unless it is one, with one commit; says whether that worked, or why not."""
    around = _repository_around(project.path)
    if around not in (None, project.path):
        return f"not committed, since it is inside the repository {around}"
    try:
        if around is None:
            git("init", "--quiet", at=project.path)
            git("symbolic-ref", "HEAD", "refs/heads/main", at=project.path)  # older versions can't name it above
        git("add", "--all", "--force", at=project.path)  # whatever the user's own .gitignore says
        git("commit", "--quiet", "--message", f"Begin with Order Rail {project.origin}", at=project.path)
    except Refused as refused:
        lines = str(refused).removeprefix("git says: ").splitlines()
        why = "; ".join([line for line in lines if line.startswith(("error: ", "fatal: "))] or lines[-1:])
        return f"not committed ({why}): set that right, and call `git commit` there"
    return "in one commit"


def _repository_around(path: Path) -> Path | None:
    """None also if that repository ignores the folder, as one of a home directory does."""
    try:
        found = Path(git("rev-parse", "--show-toplevel", at=path))
    except Refused:
        return None
    with suppress(Refused):  # it is not ignored
        git("check-ignore", "--quiet", str(path), at=found)
        return None
    return found


def _sources() -> dict[str, str]:
    """Each file of a project, with the file of ours that it is made of."""
    listed = git("ls-files", "-z", at=ROOT).split("\0")
    ours = [file for file in listed if file and (ROOT / file).is_file()]
    example = {file.removeprefix(f"{EXAMPLE}/"): file for file in ours if file.startswith(f"{EXAMPLE}/")}
    return {
        **{file: file for file in ours if is_taken(file)},
        **{f"{SERVICE}/{file}": source for file, source in example.items() if file != "events.py"},
        f"{EVENTS[1].replace('.', '/')}.py": example["events.py"],
        f"tests/service/test_{SERVICE}.py": EXAMPLE_TEST,
        **{file.removeprefix(f"{TEMPLATES}/"): file for file in ours if file.startswith(f"{TEMPLATES}/")},
    }


def texts_of(project: NewProject) -> dict[str, str]:
    """Every file of a project."""
    last = services()[-1]
    deployed = edited(ROOT, Deployed(last.name, last.port), Deployed(SERVICE, PORT))
    texts = {file: _text(project, source, deployed) for file, source in _sources().items()}
    pyproject = re.sub('(?m)^name = "order-rail"$', f'name = "{project.name}"', texts["pyproject.toml"])
    return {
        **texts,
        "pyproject.toml": pyproject,
        **{file: pinned_for(texts[file], _dependencies(pyproject), project.name) for file in PINS},
    }


def _text(project: NewProject, source: str, deployed: Mapping[str, str]) -> str:
    text = deployed.get(source) or _read(source)
    try:
        for edit in edits_of(source):
            text = edit(text)
    except Outdated as outdated:
        raise Outdated(f"the edits of {source} in manifest.py: {outdated}") from None
    if source.startswith(f"{TEMPLATES}/"):
        for word, value in (("<name>", project.name), ("<title>", project.title), ("<origin>", project.origin)):
            text = text.replace(word, value)
        return text
    if source.startswith((f"{EXAMPLE}/", EXAMPLE_TEST)):
        text = re.sub(r"port=\d+", f"port={PORT}", text.replace(*EVENTS))
        text = IMPORTS.sub(lambda found: "".join(sorted(found[0].splitlines(keepends=True), key=_module)), text)
    return text if source in KEEPS_OUR_NAME else text.replace(SYSTEM, project.title)


def _module(line: str) -> str:
    """The module of an import, by which a block of imports is sorted."""
    return line.split()[1]


def _dependencies(pyproject: str) -> set[str]:
    """The names of all distributions that it asks for."""
    content: dict[str, Any] = tomllib.loads(pyproject)
    groups = [each for group in content["dependency-groups"].values() for each in group if isinstance(each, str)]
    return {normal(each) for each in (*content["project"]["dependencies"], *groups)}


def _read(file: str) -> str:
    return (ROOT / file).read_text(encoding="utf-8")
