"""Peak memory of converting a checkpoint, and what of it is anonymous (neither mapped from the file nor shared).

    python benchmarks/conversion_memory.py VITONHD.ckpt converted/ --dtype fp16

Reads Linux's /proc/self/status every 10 ms while it converts. Memory mapped from the checkpoint (RssFile) is given
back by the kernel whenever somebody else needs it; RssAnon isn't.
"""

import argparse
import threading
import time
from pathlib import Path

from stableviton_sdk.conversion import convert_checkpoint


def read_status() -> dict[str, int]:
    """RssAnon and VmRSS of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--dtype", default="fp16", choices=["fp32", "fp16", "bf16"])
    arguments = parser.parse_args()
    before, peak, finished = read_status(), {"RssAnon": 0, "VmRSS": 0}, threading.Event()

    def watch() -> None:
        while not finished.wait(0.01):
            for name, value in read_status().items():
                peak[name] = max(peak[name], value)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    try:
        report = convert_checkpoint(arguments.source, arguments.target, dtype=arguments.dtype)
    finally:
        finished.set()
        watcher.join()
    seconds = time.perf_counter() - start
    size = arguments.source.stat().st_size
    written = sum(path.stat().st_size for path in arguments.target.rglob("*.safetensors"))
    print(f"parameters      {sum(report.parameters.values()) / 1e6:.0f} M in {', '.join(report.parameters)}")
    print(f"read, written   {size / 1e9:.2f} GB, {written / 1e9:.2f} GB as {arguments.dtype}, {seconds:.0f} s")
    print(f"RssAnon         {before['RssAnon'] / 1e9:.2f} GB at the start, {peak['RssAnon'] / 1e9:.2f} GB at its peak")
    print(f"peak to file    {peak['RssAnon'] / size:.2f} of the checkpoint's size")


if __name__ == "__main__":
    main()
