#!/usr/bin/env python3
"""Prints what the gate of an image service says of files: oslo.utils' inspector, as Glance uses it.

    inspector.py FILE...    a line each: NAME, a tab, FORMAT, a tab, and `safe` or why not

Exits with 3 where oslo.utils is not installed.
"""

import os
import sys

try:
    from importlib.metadata import version

    from oslo_utils.imageutils import format_inspector
except ImportError:
    sys.exit(3)


def gate(path):
    """What an upload would come to: the format that is found, then its safety check."""
    try:
        found = format_inspector.detect_file_format(path)
    except Exception as error:  # as the gate does: whatever goes wrong is no format
        return "none", word(error)
    if found is None:
        return "none", "nothing"
    try:
        found.safety_check()
    except format_inspector.SafetyCheckFailed as error:
        return str(found), "unsafe " + ",".join(sorted(error.failures))
    except Exception as error:
        return str(found), word(error)
    return str(found), "safe"


def word(error):
    """In a word; the names of formats in the order of the alphabet."""
    text = str(error)
    if "Multiple formats" in text:
        return "several " + "+".join(sorted(text.rsplit(":", 1)[1].strip().split(",")))
    return "incomplete" if "Incomplete" in text else type(error).__name__


def main():
    print(f"# oslo.utils {version('oslo.utils')}")
    for path in sys.argv[1:]:
        form, told = gate(path)
        print(f"{os.path.basename(path)}\t{form}\t{told}", flush=True)


if __name__ == "__main__":
    main()
