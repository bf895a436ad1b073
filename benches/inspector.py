#!/usr/bin/env python3
"""How fast oslo.utils' format inspector takes a stream, beside `cargo bench --bench inspect`.

    inspector.py FILE...    a line for each file and size of portion: MB/s of CPU, median of 5
"""

import statistics
import sys
import time

from oslo_utils.imageutils import format_inspector

MIB = 1 << 20


def speed(data, portion):
    begin = time.process_time()
    wrapper = format_inspector.InspectWrapper(iter(()))
    for at in range(0, len(data), portion):
        wrapper._process_chunk(data[at : at + portion])
    wrapper._finish()
    wrapper.formats
    return len(data) / (time.process_time() - begin) / 1e6


def main():
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            data = file.read(64 * MIB)
        for portion in (MIB, 64 << 10, 4 << 10, 512):
            # Small portions take it long: less of the file will do.
            part = data if portion > 4096 else data[: 8 * MIB]
            median = statistics.median(speed(part, portion) for _ in range(5))
            print(f"{path}\t{portion}\t{median:.0f} MB/s", flush=True)


if __name__ == "__main__":
    main()
