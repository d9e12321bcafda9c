"""The shell commands of the documentation: found in its pages, and run as they stand.

Every fenced block in `sh`, `bash` or `console` is run, page by page, all blocks of a page in one shell. A comment above
a block exempts it: `<!-- not run: why -->`, `<!-- long: why -->` (run with DOCUMENTATION=long), or
`<!-- another terminal -->` for what the test has started. A block in `text` right below shows the output, with `…` for
anything.
"""

import os
import re
import textwrap
from asyncio import create_subprocess_exec
from asyncio.subprocess import DEVNULL, PIPE, STDOUT
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"(?:^ *<!-- (?P<exempt>not run|long|another terminal)(?:: (?P<reason>[^>]+))? -->\n+)?"
    r"^(?P<indent> *)```(?:sh|bash|console|shell|zsh)\n(?P<commands>.*?)^(?P=indent)```\n"
    r"(?:\n?(?P=indent)```text\n(?P<output>.*?)^(?P=indent)```\n)?",
    re.MULTILINE | re.DOTALL,
)
MARK = "-- the end of block"


@dataclass(frozen=True)
class Block:
    line: int
    commands: str
    output: str
    exempt: str
    reason: str

    @property
    def is_run(self) -> bool:
        return not self.exempt or (self.exempt == "long" and os.environ.get("DOCUMENTATION") == "long")


def blocks(page: Path) -> list[Block]:
    """Every block of shell commands on a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            text.count("\n", 0, found.start("commands")),
            *(textwrap.dedent(found[name] or "") for name in ("commands", "output")),
            *(found[name] or "" for name in ("exempt", "reason")),
        )
        for found in FENCE.finditer(text)
    ]


async def run(page: Path, folder: Path) -> list[str]:
    """Run the blocks of a page in `folder`, up to the first command that fails; what was not as the page says."""
    script = folder / f"{page.stem}.commands"
    running = [block for block in blocks(page) if block.is_run]
    script.write_text("set -e\n" + "".join(f"{block.commands}\necho '{MARK}'\n" for block in running))
    shell = await create_subprocess_exec("bash", script, cwd=folder, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT)
    outputs = (await shell.communicate())[0].decode().split(f"{MARK}\n")
    wrong = [
        f"{page.name}:{block.line}: expected\n{block.output}\ngot\n{output}"
        for block, output in zip(running, outputs, strict=False)
        if not re.search(re.sub("…(\\\\\n)?", ".*", re.escape(block.output.strip())), output, re.DOTALL)
    ]
    if shell.returncode:
        failed = running[len(outputs) - 1]
        wrong.append(f"{page.name}:{failed.line}: exit status {shell.returncode}\n{failed.commands}\n{outputs[-1]}")
    return wrong
