"""What the presets take on an RTX 3060, modelled from counted operations and bytes and the card's public rates.

python scripts/bench/model_rtx3060.py [--matrix TFLOPS] [--disk GBS]
"""

from __future__ import annotations

import argparse
import dataclasses

from kiss3d_cli.methods.bundle.flux_settings import drawing_calls
from kiss3d_cli.methods.registry import methods
from kiss3d_cli.pipeline import config as configuration
from kiss3d_cli.pipeline.estimate import GIB, RTX_3060, START_SECONDS, estimate

PRESETS = ("fast", "12gb", "quality")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matrix", type=float, default=RTX_3060.matrix / 1e12, help="sustained TFLOP/s")
    parser.add_argument("--disk", type=float, default=RTX_3060.disk / 1e9, help="GB/s")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    options = parser.parse_args()
    rates = dataclasses.replace(RTX_3060, matrix=options.matrix * 1e12, disk=options.disk * 1e9)
    rows: dict[str, list[str]] = {"start": [f"{START_SECONDS:.1f}"] * len(PRESETS)}
    totals, calls, video, least = [], [], [], []
    for name in PRESETS:
        config = configuration.load(
            configuration.preset_layer(name),
            configuration.settings_layer(["device.memory_limit=12", *options.settings]),
        )
        found = estimate(config, rates)
        bundle = config.of(methods()["bundle"]["flux"])
        for stage in found.stages:
            rows.setdefault(stage.stage, []).append(f"{stage.seconds:.1f}")
        totals.append(f"**{found.seconds:.0f}**")
        calls.append("{} + {}".format(*drawing_calls(bundle, bundle.strength, bundle.asked)))
        video.append(f"{found.video_bytes / GIB:.1f}")
        least.append(f"{found.least_video_bytes / GIB:.1f}")
    print(f"| seconds on an {rates.name} | {' | '.join(PRESETS)} |")
    print("|---|" + "---|" * len(PRESETS))
    rows |= {"**whole run**": totals, "calls: transformer + ControlNet": calls}
    rows |= {"video memory, GiB": video, "the least that works, GiB": least}
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
