"""Write random models in the published layouts, so that the real stages run without the real weights.

python scripts/make_checkpoints.py --size tiny --out ROOT
kiss3d run image.png --preset 12gb --until multiview --set models.root=ROOT
"""

from __future__ import annotations

import argparse
from pathlib import Path

from checkpoints import chat, dinov2, florence2, flux, isnet, prm, tensors, zero123plus

MODELS = {
    "isnet": isnet.write,
    "florence2": florence2.write,
    "chat": chat.write,
    "zero123plus": zero123plus.write,
    "prm": prm.write,
    "flux": flux.write,
    "dinov2": dinov2.write,
}

SEED = 5
"""One with which the tiny Florence-2 finds words."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = "full: the published sizes, 35 GB; hollow: the same, but of zeros that take no room on the disk"
    parser.add_argument("--size", choices=("tiny", "full", "hollow"), default="tiny", help=sizes)
    parser.add_argument("--out", type=Path, required=True, help="the folder for models.root")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", nargs="*", choices=sorted(MODELS), help="write these alone")
    parser.add_argument("--schnell", action="store_true", help="at full size, the merge of Flux with schnell too")
    options = parser.parse_args()
    tensors.HOLLOW = options.size == "hollow"
    for name in options.only or MODELS:
        size = "full" if tensors.HOLLOW and name != "flux" else options.size
        more = {"schnell": True} if name == "flux" and options.schnell else {}
        MODELS[name](options.out, size, options.seed, **more)
        print(f"{name}: written to {options.out}")


if __name__ == "__main__":
    main()
