# SPDX-License-Identifier: Apache-2.0

"""Teaches tape templates of Python's string module.

Every *.tmpl of a folder becomes a manifest of its name without .tmpl, with
$name and ${name} replaced by the values given. It is an example of an interpreter
that uses nothing of tape but interpreter.proto; what has to do with the protocol
is in server.py.
"""

import json
import os
import string

SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "values": {
            "description": "what takes the place of $name",
            "type": "object",
            "additionalProperties": {"type": ["string", "number"]},
        }
    },
}

DESCRIPTION = {
    "name": "template",
    "version": "1.0.0",
    "help": "fills in templates of Python's string module",
    "markers": [{"name": "*.tmpl"}],
    "options": SCHEMA,
}


class Mistake(Exception):
    """A mistake of the user, with the place where it is."""

    def __init__(self, summary, file="", line=0, column=0):
        super().__init__(summary)
        self.summary, self.file, self.line, self.column = summary, file, line, column


def inputs(root, path, options):
    """Which files a render reads, relative to root."""
    values(options)
    return templates(root, path)


def render(source, path, options):
    """The rendered files: pairs of a name and bytes."""
    given = values(options)
    for name in templates(source, path):
        with open(os.path.join(source, name), "rb") as f:
            try:
                text = f.read().decode("utf-8")
            except UnicodeDecodeError as e:
                raise Mistake(f"not UTF-8 at byte {e.start}", name) from e
        out = posix_basename(name)[: -len(".tmpl")]
        yield out, substitute(text, given, name).encode("utf-8")


def values(options):
    try:
        given = json.loads(options or "{}")
    except ValueError as e:
        raise Mistake(f"options: {e}") from e
    if not isinstance(given, dict) or given.keys() - {"values"}:
        raise Mistake("options: want an object with values")
    given = given.get("values", {})
    if not isinstance(given, dict) or any(
        isinstance(v, bool) or not isinstance(v, (str, int, float)) for v in given.values()
    ):
        raise Mistake("options: values must be strings and numbers")
    return given


def templates(root, path):
    """The templates of a folder, or the one that path is, in a fixed order."""
    where = os.path.join(root, path)
    if os.path.isfile(where):
        return [path]
    try:
        names = sorted(os.listdir(where))
    except OSError as e:
        raise Mistake(f"cannot read the source: {e.strerror}", path) from e
    found = [n for n in names if n.endswith(".tmpl") and os.path.isfile(os.path.join(where, n))]
    if not found:
        raise Mistake("no *.tmpl in the folder", path)
    return [n if path == "." else f"{path}/{n}" for n in found]


def substitute(text, given, file):
    """As string.Template.substitute, but says where what is missing stands."""
    for m in string.Template.pattern.finditer(text):
        name = m.group("named") or m.group("braced")
        if m.group("invalid") is None and (name is None or name in given):
            continue
        line = text.count("\n", 0, m.start()) + 1
        column = m.start() - text.rfind("\n", 0, m.start())
        summary = f"no value for ${name}" if name else "$ without a name; write $$ for one"
        raise Mistake(summary, file, line, column)
    return string.Template(text).substitute(given)


def posix_basename(name):
    return name.rsplit("/", 1)[-1]
