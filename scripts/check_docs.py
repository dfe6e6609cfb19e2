"""Check the pages: links, the languages of code blocks, and that the two READMEs have the same sections.

Every relative link and anchor exists; an address elsewhere is well formed and of a host that was looked at, and is not
asked for. Every code block is fenced and names its language, by which the tests know what to do with it. The READMEs
are in two languages: their sections are the same where headings have the same levels in the same order, and each
section has the same code blocks (except for comments and strings), pictures, and links to files.

Usage: check_docs.py [FOLDER]
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
PAIR = ("README.md", "README.zh.md")
PAGES = (
    "*.md",
    *(f"{folder}/**/*.md" for folder in ("docs", "examples", "benchmarks", "interop", "export", "native", "tests")),
)
FENCE = re.compile(r"^\s*(```+|~~~+)\s*(\w*)")
HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*$")
LINK = re.compile(r"(!?)\[(?:[^\[\]]|\[[^\]]*\])*\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
CODE = re.compile(r"(`+).+?\1")
EXTERNAL = re.compile(r"^[a-z][a-z+.-]*:")
ADDRESS = re.compile(r"""https?://[^\s<>"'`\\|\])]+""")
HOSTS = {"docs.ray.io", "github.com", "keepachangelog.com", "semver.org"}
"""The hosts that pages may link to."""

HERE = {"127.0.0.1", "localhost"}
"""The hosts that need no https."""

LANGUAGES = {"console", "js", "json", "python", "sh", "text"}
STRINGS_AND_COMMENTS = re.compile(r"""'[^']*'|"[^"]*"|(?:^|(?<=\s))#.*$""", re.MULTILINE)


@dataclass
class Section:
    """A heading and what follows up to the next one.

    Attributes:
        title: Text of the heading.
        level: Number of its `#`; 0 for what precedes the first heading.
        line: Number of its line, from 1.
        code: Language of each code block, "" where it names none, with its text.
        indented: Line of each block of code without a fence.
        links: Target and line of each link.
        pictures: Target and line of each picture.
    """

    title: str = ""
    level: int = 0
    line: int = 1
    code: list[tuple[str, str]] = field(default_factory=list)
    indented: list[int] = field(default_factory=list)
    links: list[tuple[str, int]] = field(default_factory=list)
    pictures: list[tuple[str, int]] = field(default_factory=list)


def sections(text: str) -> list[Section]:
    """The sections of a page, in order."""
    found, fence = [Section()], ""
    prose: list[list[str]] = [[]]
    for number, line in enumerate(text.splitlines(), 1):
        opened = FENCE.match(line)
        heading = None if fence or opened else HEADING.match(line)
        if heading:
            found.append(Section(heading[2], len(heading[1]), number))
            prose.append([])
        if line.startswith("    ") and not fence and not opened and not "".join(prose[-1][-1:]).strip():
            found[-1].indented.append(number)
        prose[-1].append("" if fence or opened or heading else line)
        if opened and not fence:
            fence = opened[1]
            found[-1].code.append((opened[2], ""))
        elif opened and opened[1].startswith(fence) and not opened[2]:
            fence = ""
        elif fence:
            language, text = found[-1].code[-1]
            found[-1].code[-1] = (language, f"{text}{line}\n")
    for section, lines in zip(found, prose, strict=True):
        add_links(section, "\n".join(lines))
    return found


def add_links(section: Section, prose: str) -> None:
    """Find the links and pictures of a section in its text, whose code blocks are blank lines."""
    prose = CODE.sub(lambda code: " " * len(code[0]), prose)
    for link in LINK.finditer(prose):
        line = section.line + prose.count("\n", 0, link.start())
        (section.pictures if link[1] else section.links).append((link[2], line))


def anchors(page: list[Section]) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    taken: Counter[str] = Counter()
    names = set()
    for section in page:
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", section.title).replace("`", "").lower()
        kept = (each for each in text if each in " -_" or unicodedata.category(each)[0] in "LNM")
        name = "".join(kept).replace(" ", "-")
        names.add(f"{name}-{taken[name]}" if taken[name] else name)
        taken[name] += 1
    return names


def broken_links(path: Path, page: list[Section], root: Path) -> Iterator[str]:
    """What is wrong with the links of a page, a line for each that leads nowhere."""
    for section in page:
        for target, line in section.links + section.pictures:
            reason = None if EXTERNAL.match(target) else broken(path, target, root)
            if reason is not None:
                yield f"{path.relative_to(root)}:{line}: {reason}"


def unfit(path: Path, text: str, page: list[Section], root: Path) -> Iterator[str]:
    """What is wrong with the addresses and the code blocks of a page, a line each."""
    for address in ADDRESS.findall(text):
        url = urlsplit(address.rstrip(".,;:"))
        if url.hostname not in HOSTS | HERE:
            yield f"{path.relative_to(root)}: look at {address}, and add its host to HOSTS in scripts/check_docs.py"
        elif url.scheme != "https" and url.hostname not in HERE:
            yield f"{path.relative_to(root)}: {address} has no https"
    for section in page:
        for number in section.indented:
            yield f"{path.relative_to(root)}:{number}: code without a fence"
        for language, code in section.code:
            if language not in LANGUAGES:
                first = code.partition("\n")[0]
                yield f"{path.relative_to(root)}: the block {first!r} has language {language!r}, expected {LANGUAGES}"


def broken(path: Path, target: str, root: Path) -> str | None:
    """The reason why a link of a page leads nowhere; None where it leads to a file and heading that are there."""
    name, _, anchor = target.partition("#")
    file = (path.parent / name).resolve() if name else path
    if not file.exists() or not file.is_relative_to(root):
        return f"there is no {name}"
    if anchor and file.suffix == ".md" and anchor not in anchors(sections(file.read_text(encoding="utf-8"))):
        return f"there is no heading #{anchor} in {file.relative_to(root)}"
    return None


def differences(one: list[Section], other: list[Section]) -> Iterator[str]:
    """What differs between the sections of the two READMEs, a line for each difference."""
    for first, second in zip(one, other, strict=False):
        for what, ours, theirs in (
            ("level", first.level, second.level),
            ("code blocks", outline(first.code), outline(second.code)),
            ("pictures", targets(first.pictures), targets(second.pictures)),
            ("links", targets(first.links), targets(second.links)),
        ):
            if ours != theirs:
                yield (
                    f"{PAIR[0]}:{first.line} ({first.title}) and {PAIR[1]}:{second.line} ({second.title}) "
                    f"differ in their {what}: {ours} and {theirs}"
                )
    if len(one) != len(other):
        yield f"{PAIR[0]} has {len(one) - 1} headings, {PAIR[1]} has {len(other) - 1}"


def outline(code: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Code blocks without strings, comments and the characters of no ASCII, which a translation changes."""
    kept = [(language, STRINGS_AND_COMMENTS.sub("", text)) for language, text in code]
    return [(language, re.sub(r"[^\x00-\x7f]+| +$", "", text, flags=re.MULTILINE)) for language, text in kept]


def targets(links: list[tuple[str, int]]) -> list[str]:
    """The targets of links in alphabetical order, each once, without the links from one README to the other."""
    return sorted({target for target, _ in links if target not in PAIR})


def main() -> int:
    """Print what is wrong; return 1 where something is."""
    root = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT
    paths = sorted({path for pattern in PAGES for path in root.glob(pattern)})
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    pages = {path: sections(text) for path, text in texts.items()}
    wrong = [line for path, page in pages.items() for line in broken_links(path, page, root)]
    wrong += [line for path, page in pages.items() for line in unfit(path, texts[path], page, root)]
    wrong += differences(*(pages[root / name] for name in PAIR))
    for line in wrong:
        print(f"check_docs: {line}", file=sys.stderr)
    print(f"check_docs: {len(pages)} pages, {sum(len(s.links + s.pictures) for p in pages.values() for s in p)} links")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
