#!/usr/bin/env python3
"""Makes testdata/bad anew: images that attack whoever reads them, and what must come of each.

Each family of formats has a file in `attacks`, which builds its images byte by byte: nothing here
was taken from elsewhere. Wants `zstd`. The same bytes in every run.

    bad.py            makes all files
    bad.py --table    prints the tables of SECURITY.md
    bad.py --digests  prints the SHA-256 of each image, and its name
"""

import hashlib
import os
import shutil
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
sys.dont_write_bytecode = True

from attacks import FAMILIES  # noqa: E402


def keep(attack):
    """Packs an image, and writes beside it what must come of it."""
    folder = os.path.join(HERE, "bad", attack.format)
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, attack.name)
    pack = ["zstd", "-15", "--quiet", "--force", "-", "-o", path + ".zst"]
    subprocess.run(pack, input=attack.data, check=True)
    with open(path + ".toml", "w", encoding="utf-8") as note:
        for key in ("class", "format", "deed", "kind", "beside", "story"):
            value = attack.facts.get(key)
            if value:
                assert '"' not in value and "\n" not in value, (attack.name, value)
                note.write(f'{key} = "{value}"\n')


def table(attacks):
    """A table for each class: format, deed, kind, and the files that show it."""
    rows = {}
    for attack in attacks:
        facts = attack.facts
        key = (facts["class"], attack.format, facts["deed"], facts["kind"])
        rows.setdefault(key, []).append(attack.name)
    last = None
    for (kind_of, form, deed, kind), names in sorted(rows.items()):
        if kind_of != last:
            print(f"\n### {kind_of}\n\n| format | deed | comes to | shown by |\n|---|---|---|---|")
        last = kind_of
        names = ", ".join(f"`{name}`" for name in sorted(names))
        print(f"| {form} | {deed} | {kind} | {names} |")


def main():
    attacks = [attack for family in FAMILIES for attack in family()]
    names = [attack.name for attack in attacks]
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"two attacks of one name: {twice}"
    if sys.argv[1:] == ["--table"]:
        table(attacks)
        return
    if sys.argv[1:] == ["--digests"]:
        for attack in attacks:
            print(hashlib.sha256(attack.data).hexdigest(), attack.name)
        return
    shutil.rmtree(os.path.join(HERE, "bad"), ignore_errors=True)
    for attack in attacks:
        keep(attack)
    print(f"{len(attacks)} images")


if __name__ == "__main__":
    main()
