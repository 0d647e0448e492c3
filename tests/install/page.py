"""The code blocks of docs/install.md."""

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PAGE = CHECKOUT / "docs" / "install.md"

_HEADING = re.compile(r"#+ (.*)")


def blocks(language, text=None):
    """The blocks of a language as `(heading, number under it, code)`."""
    found = []
    heading, fence, number = "", None, 0
    for line in (text or PAGE.read_text()).splitlines():
        if fence is not None:
            if line == "```":
                if fence == language:
                    found.append((heading, number, "\n".join(code) + "\n"))
                    number += 1
                fence = None
            else:
                code.append(line)
        elif line.startswith("```"):
            fence, code = line[3:], []
        elif match := _HEADING.fullmatch(line):
            heading, number = match[1], 0
    return found


def messages():
    """The messages in the tables under "Errors": each one that a row's first cell has in backquotes."""
    section = PAGE.read_text().split("\n## Errors\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    return [message for row in rows for message in re.findall(r"`([^`]+)`", row.split(" | ")[0])]
