"""Honest and junk films, as recipes for ffmpeg: altered spans of real footage, and pictures of its own.

A recipe is a function of a file of footage. It returns the options of ffmpeg before the output.
The films show kinds, in the spirit of issue 15; they are not the films that a release is measured with.
"""

import hashlib
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from app.video.ffmpeg import tool
from tests.videos import footage

SIZE = "scale=640:360:force_original_aspect_ratio=increase,crop=640:360,setsar=1,fps=25"
ENCODE = ("-an", "-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p")
SECONDS = 5

Command = tuple[object, ...]
Recipe = Callable[[Path], Command]


def filmed(*filters: str) -> Recipe:
    """The start of the footage through `filters`."""
    chain = ",".join((SIZE, *filters))
    return lambda file: ("-i", file, "-vf", chain)


def graph(text: str, *others: str) -> Recipe:
    """The footage [0:v], and `others` [1:v] …, through a graph whose [film] is taken.

    One of the `others` is other footage by its name, or an ffmpeg source.
    """
    inputs: list[object] = []
    for other in others:
        is_source = "=" in other
        inputs += ["-f", "lavfi", "-i", other] if is_source else ["-stream_loop", "-1", "-i", footage(other)]
    filled = text.replace("SIZE", SIZE).replace("PHOTO", PHOTO)
    return lambda file: ("-i", file, *inputs, "-filter_complex", filled, "-map", "[film]")


def drawn(source: str) -> Recipe:
    return lambda file: ("-f", "lavfi", "-i", source)


def overlaid(when: str) -> Recipe:
    """The footage, and other footage in the frames `when` tells."""
    return graph(f"[0:v]SIZE[a];[1:v]SIZE[b];[a][b]overlay=enable={when}[film]", "carphone")


def waits(spans: Sequence[tuple[int, int]], *further: str) -> Recipe:
    """The footage, which stands still at each of the frames given, for so many frames."""
    pauses = (f"loop=loop={length}:size=1:start={first},setpts=N/25/TB" for first, length in spans)
    return filmed(*pauses, *further)


def small_part(size: int, background: str = "[0:v]SIZE,PHOTO") -> Recipe:
    """A part of the footage, so many pixels wide, before what stands still."""
    x, y, height = 320 - size // 2, 180 - size * 3 // 8, size * 3 // 4
    return graph(
        f"{background}[still];[0:v]SIZE,crop={size}:{height}:{x}:{y}[part];"
        f"[still][part]overlay={x}:{y}:shortest=1,{NOISE}[film]",
        "color=c=0x9a9488:s=640x360:r=25",
    )


# a picture out of the footage, for as long as is wanted
PHOTO = "select=eq(n\\,40),loop=-1:1,setpts=N/25/TB"
LATER = PHOTO.replace("40", "90")
BETWEEN = PHOTO.replace("40", "65")
# a sensor's
NOISE = "noise=alls=6:allf=t"
SNOW = "nullsrc=s=640x360:r=25,geq=random(1)*255:128:128"
SWAY = "crop=560:315:40+30*sin(t*5):22+18*cos(t*7),scale=640:360"
ZOOM = "zoompan=z=1+in/250:d=1:x=iw/2-iw/zoom/2:y=ih/2-ih/zoom/2:s=640x360:fps=25"
PAN = "zoompan=z=1.3:d=1:x=in*2:y=ih/10+in/2:s=640x360:fps=25"
ROUND = "lt(hypot(X-320,Y-180),180)"
LARGE = "scale=2560:1440"
LETTERS = "drawtext=text='Lift the cup with one hand':fontsize=28:x=60:fontcolor"

HONEST: dict[str, Recipe] = {
    "as it is": filmed(),
    "re-encoded badly": filmed("noise=alls=10:allf=t"),
    "24 frames a second": filmed("fps=24"),
    "30 frames a second": filmed("fps=30"),
    "60 frames a second": filmed("fps=60"),
    "15 frames a second": filmed("fps=15"),
    "variable frame rate": filmed("select=not(mod(n\\,5))+lt(mod(n\\,25)\\,16)"),
    "waits for 40 %": waits([(30, 50)]),
    "waits for 40 %, with a sensor's noise": waits([(30, 50)], NOISE),
    "waits for 60 %, twice": waits([(15, 40), (75, 35)], NOISE),
    "waits 55 %, with movements between": waits([(10, 16), (35, 16), (60, 18), (90, 18)], NOISE),
    "a part of 96 pixels moves": small_part(96),
    "a part of 64 pixels moves": small_part(64),
    "a part of 160 pixels moves, before a plain wall": small_part(160, "[0:v]null[c];[c]nullsink;[1:v]null"),
    "a hand-held camera": filmed(SWAY),
    "first person, walking": filmed(
        "crop=520:292:60+40*sin(t*3)+8*sin(t*17):34+22*abs(sin(t*6))+5*sin(t*23),scale=640:360"
    ),
    "jitter of a rolling shutter": filmed("crop=620:348:10+8*sin(n*1.7):6+5*sin(n*2.3),scale=640:360"),
    "the head is turned away for 2 s": graph(
        "[0:v]SIZE[a];[1:v]crop=640:360:60+40*sin(t*2):30+20*sin(t*3)[b];"
        f"[a][b]overlay=x=if(lt(t\\,1.3)\\,W\\,if(lt(t\\,1.6)\\,W*(1.6-t)/0.3\\,if(lt(t\\,3.2)\\,0\\,"
        f"W*(3.2-t)/0.3))),{NOISE}[film]",
        "gradients=s=760x420:c0=0x8a8478:c1=0xb0a898:speed=0.00001:r=25:seed=5",
    ),
    "the focus hunts": filmed("gblur=sigma=6:enable=between(t\\,1\\,1.5)+between(t\\,3\\,3.5)"),
    "a soft lens": filmed("gblur=sigma=1.2"),
    "the exposure drifts": filmed("eq=brightness=0.15*sin(t*1.5):eval=frame"),
    "a dark garage": filmed("eq=brightness=-0.28:contrast=0.6"),
    "a darker garage, with noise": filmed("eq=brightness=-0.36:contrast=0.4", "noise=alls=14:allf=t"),
    "backlit": filmed("drawbox=0:0:iw*0.55:ih:white:fill"),
    "backlit, and the rest is dim": filmed(
        "eq=brightness=-0.2:contrast=0.7", "drawbox=0:0:iw*0.55:ih:white:fill"),
    "a white bench": filmed("scale=320:180,pad=640:360:160:90:white"),
    "snow": filmed("curves=all='0/0.35 0.5/0.9 0.7/1 1/1'"),
    "low contrast": filmed("eq=contrast=0.5"),
    "grey": filmed("hue=s=0"),
    "a wide lens": filmed("lenscorrection=k1=-0.2:k2=-0.02"),
    "flickering lamps": filmed("eq=brightness=0.04*sin(2*PI*t*9):eval=frame"),
    "one flash": filmed("eq=brightness=0.6:enable=between(n\\,50\\,51)"),
    "12 frames a second, shown as 25": filmed("fps=12", "fps=25"),
    "portrait, between black borders": filmed("crop=202:360", "pad=640:360:219:0:black"),
    "a wide lens, in a round picture": filmed(
        "format=yuv444p",
        f"geq=lum='{ROUND}*lum(X,Y)':cb='128+{ROUND}*(cb(X,Y)-128)':cr='128+{ROUND}*(cr(X,Y)-128)'"),
    "dim and noisy": filmed("eq=brightness=-0.3:contrast=0.5", "noise=alls=12:allf=t"),
    "two cuts": graph("[0:v]SIZE,trim=0:2,setpts=PTS-STARTPTS[a];[1:v]SIZE,trim=0:1.5,setpts=PTS-STARTPTS[b];"
                      "[0:v]SIZE,trim=2:4,setpts=PTS-STARTPTS[c];[a][b][c]concat=n=3[film]", "bikes"),
}  # fmt: skip

JUNK: dict[str, Recipe] = {
    "white noise": drawn(SNOW),
    "white noise in large grains": drawn("nullsrc=s=80x45:r=25,geq=random(1)*255:128:128,scale=640:360"),
    "noise that stands still": drawn(f"{SNOW},select=eq(n\\,0),loop=-1:1,setpts=N/25/TB"),
    "testsrc": drawn("testsrc=s=640x360:r=25"),
    "testsrc2": drawn("testsrc2=s=640x360:r=25"),
    "smptebars": drawn("smptebars=s=640x360:r=25"),
    "colours that change": drawn("gradients=s=640x360:r=25:speed=0.03:seed=5"),
    "a drawing, zoomed into": drawn(
        f"testsrc=s=2560x1440:r=25,select=eq(n\\,0),loop=-1:1,setpts=N/25/TB,{ZOOM}"),
    "a screen-saver": graph(
        "[0:v]nullsink;[1:v][2:v]overlay=x=abs(mod(t*140\\,1120)-560):y=abs(mod(t*90\\,620)-310)[film]",
        "color=black:s=640x360:r=25", "color=red:s=80x50:r=25"),
    "letters that scroll": drawn(
        "color=white:s=640x360:r=25,"
        + ",".join(f"{LETTERS}=black:y={40 * line}-t*35" for line in range(14))),
    "a photo": filmed(PHOTO),
    "a photo with noise": filmed(PHOTO, NOISE),
    "a photo with the grain of film": filmed(PHOTO, "noise=alls=30:allf=t"),
    "a photo in changing colours": filmed(PHOTO, "hue=H=2*PI*t/3"),
    "a photo in changing light": filmed(PHOTO, "eq=brightness=0.2*sin(t*4):eval=frame"),
    "a shaken photo": filmed(PHOTO, SWAY),
    "a shaken photo, with noise": filmed(PHOTO, SWAY, NOISE),
    "a turned photo": filmed(PHOTO, "rotate=0.2*sin(t*2),crop=480:270,scale=640:360"),
    "a photo, zoomed into": filmed(LARGE, PHOTO, ZOOM),
    "a photo, panned over, with noise": filmed(LARGE, PHOTO, PAN, NOISE),
    "a photo with a moving sticker": graph(
        f"[0:v]SIZE,PHOTO[a];[a][1:v]overlay=x=mod(t*120\\,560):y=150:shortest=1,{NOISE}[film]",
        "testsrc=s=64x48:r=25,select=eq(n\\,0),loop=-1:1,setpts=N/25/TB"),
    "slides that are panned over and fade": graph(
        f"[0:v]SIZE,{LARGE},split=3[a][b][c];[a]PHOTO,{ZOOM},trim=0:3[x];[b]{LATER},{PAN},trim=0:3[y];"
        f"[c]{BETWEEN},{ZOOM},trim=0:3[z];[x][y]xfade=duration=0.8:offset=1.4[xy];"
        "[xy][z]xfade=duration=0.8:offset=3[film]"),
    "cross-faded photos": graph(
        f"[0:v]SIZE,split=3[a][b][c];[a]PHOTO[x];[b]{LATER}[y];[c]{BETWEEN}[z];"
        "[x]fps=25,trim=0:5[x1];[y]fps=25,trim=0:6[y1];[z]fps=25,trim=0:5[z1];"
        "[x1][y1]xfade=duration=2:offset=0.3[xy];[xy][z1]xfade=duration=2:offset=2.6[film]"),
    "slides, one a second": filmed("select=not(mod(n\\,25))", "loop=0", "setpts=PTS", "fps=25"),
    "a second, over and over": graph("[0:v]SIZE,trim=0:1,loop=-1:25,setpts=N/25/TB[film]"),
    "a second, over and over, with noise": graph(
        f"[0:v]SIZE,trim=0:1,loop=-1:25,setpts=N/25/TB,{NOISE}[film]"),
    "to and fro": graph(
        "[0:v]SIZE,trim=0:1.5,split[a][b];[b]reverse[r];[a][r]concat=n=2,loop=-1:75,setpts=N/25/TB[film]"),
    "a second, over and over, in light that changes": graph(
        "[0:v]SIZE,trim=0:1,loop=-1:25,setpts=N/25/TB,eq=brightness=0.05*sin(t*2):contrast=0.8+0.05*t:eval=frame"
        f",{NOISE}[film]"),
    "a second, over and over, hand-held": graph(
        f"[0:v]SIZE,trim=0:1,loop=-1:25,setpts=N/25/TB,{SWAY}[film]"),
    "to, and back at twice the speed": graph(
        "[0:v]SIZE,trim=0:1.5,split[a][b];[b]reverse,setpts=PTS/2,fps=25[r];[a][r]concat=n=2,loop=-1:56,"
        "setpts=N/25/TB[film]"),
    "defocused throughout": filmed("gblur=sigma=8"),
    "defocused, with noise": filmed("gblur=sigma=8", NOISE),
    "contrast 0.03": filmed("eq=contrast=0.03"),
    "alternate frames": overlaid("mod(n\\,2)"),
    "eleven inserted frames in 125": overlaid("eq(mod(n\\,11)\\,5)"),
    "shots of a third of a second": overlaid("mod(floor(n/8)\\,2)"),
    "strobe": filmed("eq=brightness=-1:enable=mod(n\\,2)"),
}  # fmt: skip


def encoded(command: Command, directory: Path) -> Path:
    """Return the film of that command in `directory`, made unless it is there."""
    path = directory / f"{hashlib.sha256(repr(command).encode()).hexdigest()[:16]}.mp4"
    if not path.exists():
        program = [tool("ffmpeg"), "-v", "error", "-y", "-nostdin", *map(str, command), "-t", str(SECONDS)]
        subprocess.run([*program, *ENCODE, str(path)], check=True)
    return path
