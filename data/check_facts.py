#!/usr/bin/env python3
"""Checks data/facts: every line, and that relations.json describes the files. Standard library only.

Prints a summary and a table of counts; on errors prints FILE:LINE: what is wrong, and exits 1.
"""
import argparse
import json
import pathlib
import re
import sys

REQUIRED = {"id", "relation", "template", "prompt", "subject", "answer"}
OPTIONAL = {"aliases"}
RELATION_FIELDS = {"name", "title", "kind", "abstraction", "templates", "n"}
KINDS = ("factual", "commonsense")
ABSTRACTIONS = ("concrete", "abstract")
MIN_FACTS = 600
MIN_RELATIONS = 15


class Errors:
    """Collects messages so that one run shows everything that is wrong."""

    def __init__(self):
        self.messages = []

    def add(self, path, line, message):
        self.messages.append(f"{path}:{line}: {message}")


def refuse_duplicate_keys(pairs):
    """json keeps the last of two equal keys in silence; a data file must not rely on that."""
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"field {key!r} occurs twice")
    return dict(pairs)


def parse_json(text):
    try:
        return json.loads(text, object_pairs_hook=refuse_duplicate_keys)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_text(path, errors):
    """The file as text, or None. Lines end in \\n; a byte order mark or carriage return is an error."""
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as exc:
        errors.add(path, 1, f"cannot be read: {exc.strerror}")
        return None
    except UnicodeDecodeError as exc:
        line = exc.object[: exc.start].count(b"\n") + 1
        errors.add(path, line, "not valid UTF-8")
        return None
    if text.startswith("\ufeff"):
        errors.add(path, 1, "starts with a byte order mark")
    if "\r" in text:
        errors.add(path, text[: text.index("\r")].count("\n") + 1, "carriage return")
    if not text.endswith("\n"):
        errors.add(path, text.count("\n") + 1, "last line has no end of line")
    return text


def is_clean(value):
    """A non-empty string of valid characters without leading, trailing or double spaces, which would change its tokens."""
    if not isinstance(value, str) or not value or " ".join(value.split()) != value:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in value)


def check_strings(fact):
    """What is wrong with the fields of one fact taken alone, as a list of messages."""
    if not isinstance(fact, dict):
        return ["not a JSON object"]
    missing = sorted(REQUIRED - fact.keys())
    unknown = sorted(fact.keys() - REQUIRED - OPTIONAL)
    found = [f"field {name!r} is missing" for name in missing]
    found += [f"unknown field {name!r}" for name in unknown]
    for name in sorted(REQUIRED & fact.keys()):
        if not is_clean(fact[name]):
            found.append(f"{name!r} must be a non-empty string without leading, trailing or double spaces")
    if "aliases" in fact:
        aliases = fact["aliases"]
        if not isinstance(aliases, list) or not aliases or not all(is_clean(alias) for alias in aliases):
            found.append("'aliases' must be a non-empty array of strings without stray spaces")
        elif len(set(aliases)) < len(aliases) or fact.get("answer") in aliases:
            found.append("'aliases' repeats itself or the answer")
    return found


def check_meaning(fact, relation):
    """What is wrong with a fact whose fields are well formed; relation is its entry in relations.json."""
    found = []
    if fact["relation"] != relation["name"]:
        found.append(f"relation {fact['relation']!r} in the file of {relation['name']!r}")
    if not re.fullmatch(re.escape(relation["name"]) + r"-\d{3}", fact["id"]):
        found.append(f"id {fact['id']!r} is not {relation['name']}-NNN")
    if fact["subject"] not in fact["prompt"]:
        found.append(f"subject {fact['subject']!r} is not in the prompt")
    if fact["answer"] in fact["subject"]:
        found.append(f"answer {fact['answer']!r} is in the subject")
    if fact["template"] not in relation["templates"]:
        found.append(f"template {fact['template']!r} is not listed in relations.json")
    if fact["template"].replace("{}", fact["subject"]) != fact["prompt"]:
        found.append("prompt is not the template with the subject filled in")
    return found


def check_relation_entry(entry):
    """What is wrong with one entry of relations.json, as a list of messages."""
    if not isinstance(entry, dict) or entry.keys() != RELATION_FIELDS:
        return [f"a relation needs exactly the fields {', '.join(sorted(RELATION_FIELDS))}"]
    found = []
    if not isinstance(entry["name"], str) or not re.fullmatch(r"[a-z][a-z0-9_]*", entry["name"]):
        found.append(f"name {entry['name']!r} is not lower-case letters, digits and underscores")
    if not is_clean(entry["title"]):
        found.append("title must be a non-empty string")
    if entry["kind"] not in KINDS:
        found.append(f"kind {entry['kind']!r} is not one of {', '.join(KINDS)}")
    if entry["abstraction"] not in ABSTRACTIONS:
        found.append(f"abstraction {entry['abstraction']!r} is not one of {', '.join(ABSTRACTIONS)}")
    templates = entry["templates"]
    if not isinstance(templates, list) or not templates:
        found.append("templates must be a non-empty array")
    elif not all(is_clean(item) and item.count("{}") == 1 for item in templates):
        found.append("every template must hold {} exactly once, and no stray spaces")
    if type(entry["n"]) is not int or entry["n"] < 1:
        found.append("n must be a positive whole number")
    return found


def read_relations(path, errors):
    """The well-formed entries of relations.json. The file holds one relation a line, so errors have a line."""
    text = read_text(path, errors)
    if text is None:
        return []
    try:
        entries = parse_json(text)
    except ValueError as exc:
        errors.add(path, getattr(exc, "lineno", 1), f"not valid JSON: {exc}")
        return []
    if not isinstance(entries, list):
        errors.add(path, 1, "not a JSON array")
        return []
    lines = text.split("\n")
    good, names = [], set()
    for entry in entries:
        found = check_relation_entry(entry)
        name = entry.get("name") if isinstance(entry, dict) else None
        key = json.dumps({"name": name})[1:-1]
        line = next((n for n, content in enumerate(lines, 1) if key in content), 1)
        if not found and name in names:
            found = [f"relation {name!r} occurs twice"]
        for message in found:
            errors.add(path, line, message)
        if not found:
            names.add(name)
            good.append((line, entry))
    return good


def check_file(path, relation, seen, errors):
    """Checks one relation's file; returns its number of facts. seen tells where ids, prompts and subjects occurred."""
    text = read_text(path, errors)
    if text is None:
        return 0
    lines = text.rstrip("\n").split("\n")
    for number, content in enumerate(lines, 1):
        if content != content.rstrip():
            errors.add(path, number, "trailing space")
        try:
            fact = parse_json(content)
        except ValueError as exc:
            errors.add(path, number, f"not valid JSON: {exc}")
            continue
        found = check_strings(fact) or check_meaning(fact, relation)
        if not found:
            # one subject has one answer in a relation: two lines could only repeat or contradict each other
            for field, scope in (("id", ""), ("prompt", ""), ("subject", fact["relation"])):
                where = seen[field].setdefault((scope, fact[field]), f"{path}:{number}")
                if where != f"{path}:{number}":
                    found.append(f"{field} {fact[field]!r} is already at {where}")
        for message in found:
            errors.add(path, number, message)
    return len(lines)


def main():
    parser = argparse.ArgumentParser(description="Check the facts and relations.json.")
    default = pathlib.Path(__file__).resolve().parent / "facts"
    parser.add_argument("folder", nargs="?", type=pathlib.Path, default=default)
    folder = parser.parse_args().folder
    if folder == default:
        try:  # short paths in messages when run from inside the repository
            folder = default.relative_to(pathlib.Path.cwd())
        except ValueError:
            pass

    errors = Errors()
    index = folder / "relations.json"
    relations = read_relations(index, errors)
    seen = {"id": {}, "prompt": {}, "subject": {}}
    counts = []
    for line, relation in relations:
        path = folder / f"{relation['name']}.jsonl"
        n = check_file(path, relation, seen, errors)
        counts.append((relation, n))
        if n != relation["n"]:
            errors.add(index, line, f"{relation['name']} says n = {relation['n']}, its file has {n}")
    described = {relation["name"] for _, relation in relations}
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem not in described:
            errors.add(path, 1, "not described in relations.json")
    total = sum(n for _, n in counts)
    if total < MIN_FACTS:
        errors.add(index, 1, f"{total} facts, at least {MIN_FACTS} are wanted")
    if len(counts) < MIN_RELATIONS:
        errors.add(index, 1, f"{len(counts)} relations, at least {MIN_RELATIONS} are wanted")

    for message in errors.messages:
        print(message, file=sys.stderr)
    state = "ok" if not errors.messages else f"{len(errors.messages)} errors"
    print(f"facts: {total} in {len(counts)} relations: {state}")
    print(f"{'relation':<20} {'facts':>5}  {'kind':<12} abstraction")
    for relation, n in counts:
        print(f"{relation['name']:<20} {n:>5}  {relation['kind']:<12} {relation['abstraction']}")
    return 1 if errors.messages else 0


if __name__ == "__main__":
    sys.exit(main())
