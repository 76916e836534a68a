#!/usr/bin/env python3
"""Makes a labelled collection in BEIR layout out of a folder of Markdown: each query has one right answer, which is known.

    scripts/known_items.py FOLDER OUT [--by titles|links] [--queries N] [--seed N]

titles  The query is a document's title; titles are taken out of every document.
links   The query is the text of a link; the document that it leads to is the answer.

Either way the texts of links between documents are taken out, so that nothing is found for pointing at the answer. Queries
have two words or more and one reading: a title or a link text that stands for two documents is not asked. The same folder
gives the same collection. docs/quality.md says what such a collection can show and what it cannot.
"""

import argparse
import json
import posixpath
import random
import re
import sys
from collections import defaultdict
from pathlib import Path
from urllib.parse import quote, unquote

TEXT_CHARS_MIN = 80  # what is shorter cannot be recognised by anybody
QUERY_WORDS = range(2, 25)
VAGUE = {"here", "this", "see", "click", "link", "more", "read", "above", "below", "page", "the", "for", "details", "docs"}

FRONT_MATTER = re.compile(r"\A---\n(.*?\n)---\n", re.DOTALL)
FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.+?)\s*#*\s*$")
COMMENT = re.compile(r"<!--.*?-->|<a id=[^>]*>\s*</a>", re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^\[\]]+)\](?:\(\s*<?([^()\s<>]*)>?[^()]*\)|\[([^\[\]]*)\])")
TARGET = re.compile(r"^ {0,3}\[([^\[\]]+)\]:\s*<?(\S+?)>?\s*$", re.MULTILINE)
WORD = re.compile(r"\w+")


class Document:
    """A Markdown file: its title, and its text without front matter, comments and the heading that is its title."""

    def __init__(self, path, raw):
        self.path = path
        self.id = quote(path, safe="/._-")
        matter = FRONT_MATTER.match(raw)
        named = matter and re.search(r"^title:\s*(.+?)\s*$", matter[1], re.MULTILINE)
        body = COMMENT.sub("", raw[matter.end() :] if matter else raw)
        heading, rest = take_heading(body)
        # With a title in the front matter the first heading is the first section's.
        self.title = plain(named[1].strip("\"'") if named else heading)
        self.text = body if named else rest
        self.targets = {label.casefold(): url for label, url in TARGET.findall(body)}
        self.links = []

    def resolve(self, link, documents):
        """Returns the document that a link leads to, None when it leaves the folder."""
        label, url, reference = link[1], link[2], link[3]
        if url is None:
            url = self.targets.get((reference or label).casefold(), "")
        url = unquote(url.partition("#")[0])
        if not url or ":" in url:
            return None
        base = "" if url.startswith("/") else posixpath.dirname(self.path)
        path = posixpath.normpath(posixpath.join(base, url.lstrip("/")))
        places = (path, path + ".md", path + "/index.md", path + "/README.md")
        return next((documents[place] for place in places if place in documents), None)

    def take_links(self, documents):
        """Takes the texts of links to other documents out of the text and notes them."""

        def take(link):
            target = self.resolve(link, documents)
            if target is None:
                return link[0]
            if target is not self:
                self.links.append((plain(link[1]), target))
            return ""

        self.text = LINK.sub(take, self.text)


def take_heading(body):
    """Returns the first heading outside of code, and the text without it."""
    lines, fence = body.splitlines(), None
    for at, line in enumerate(lines):
        mark = FENCE.match(line)
        if mark and (fence is None or mark[1].startswith(fence)):
            fence = mark[1] if fence is None else None
        heading = fence is None and HEADING.match(line)
        if heading:
            return heading[1], "\n".join(lines[:at] + lines[at + 1 :])
    return "", body


def plain(text):
    """Returns a phrase without Markdown's marks, on one line."""
    text = LINK.sub(lambda link: link[1], text)
    text = re.sub(r"[`*]|(?<!\w)_|_(?!\w)|<[^>]*>", "", text)
    return " ".join(text.split())


def read(folder):
    documents = {}
    for path in sorted(folder.rglob("*.md")):
        name = path.relative_to(folder).as_posix()
        documents[name] = Document(name, path.read_text(encoding="utf-8", errors="replace").replace("\r\n", "\n"))
    for document in documents.values():
        document.take_links(documents)
    return [document for document in documents.values() if len(document.text.strip()) >= TEXT_CHARS_MIN]


def asked(phrase):
    """Whether a phrase says what is looked for."""
    words = [word.casefold() for word in WORD.findall(phrase)]
    # A file's name or address is no phrase.
    return len(words) in QUERY_WORDS and not VAGUE.issuperset(words) and not re.search(r"\.\w+$|://|^[/.]", phrase)


def questions(documents, by):
    """Returns pairs of a query and its answer, one query to a document, without those that have two answers."""
    if by == "titles":
        pairs = [(document.title, document) for document in documents]
    else:
        searched = set(documents)
        pairs = [link for document in documents for link in document.links if link[1] in searched]
    answers, phrases = defaultdict(set), defaultdict(set)
    for phrase, document in pairs:
        if asked(phrase):
            answers[phrase.casefold()].add(document.id)
            phrases[phrase.casefold()].add(phrase)
    first = {}
    for key in sorted(answers):
        if len(answers[key]) == 1:
            first.setdefault(next(iter(answers[key])), min(phrases[key]))
    return sorted((document, phrase) for document, phrase in first.items())


def write(out, documents, pairs, by):
    out.mkdir(parents=True, exist_ok=True)
    with open(out / "corpus.jsonl", "w", encoding="utf-8") as file:
        for document in documents:
            title = "" if by == "titles" else document.title
            file.write(json.dumps({"_id": document.id, "title": title, "text": document.text.strip()}) + "\n")
    with open(out / "queries.jsonl", "w", encoding="utf-8") as file:
        for number, (_, phrase) in enumerate(pairs, 1):
            file.write(json.dumps({"_id": f"q{number}", "text": phrase}) + "\n")
    with open(out / "qrels.tsv", "w", encoding="utf-8") as file:
        file.write("query-id\tcorpus-id\tscore\n")
        for number, (document, _) in enumerate(pairs, 1):
            file.write(f"q{number}\t{document}\t1\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--by", choices=["titles", "links"], default="titles")
    parser.add_argument("--queries", type=int, default=300, help="at most so many, drawn by --seed (default: 300)")
    parser.add_argument("--seed", type=int, default=42)
    given = parser.parse_args()
    documents = read(given.folder) if given.folder.is_dir() else []
    pairs = questions(documents, given.by)
    if not pairs:
        sys.exit(f"error: there are no {given.by} to ask for in the Markdown files of {given.folder}; name another folder")
    if len(pairs) > given.queries:
        pairs = sorted(random.Random(given.seed).sample(pairs, given.queries))
    write(given.out, documents, pairs, given.by)
    print(f"{given.out}: {len(documents)} documents, {len(pairs)} queries by {given.by}")


if __name__ == "__main__":
    main()
