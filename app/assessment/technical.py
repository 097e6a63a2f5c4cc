"""The technical checks: pure rules over what was measured."""

from collections.abc import Mapping
from typing import Any

from app.assessment.formula import REJECTING, TECHNICAL_WEIGHTS, technical_score
from app.assessment.model import Declared
from app.assessment.report import Check
from app.video.containers import MIN_PRESENT
from app.video.probe import Probe

DEFAULT_LIMITS = {
    "min_width": 480,
    "min_height": 360,
    "min_fps": 15,
    "max_fps": 120,
    "min_duration": 1,
    "max_duration": 300,
    "max_file_size_mb": 500,
}
# as ffprobe names the containers; MP4 and MOV are one to it, as are MKV and WebM
FORMATS = {"mov,mp4,m4a,3gp,3g2,mj2": "MP4 or MOV", "matroska,webm": "MKV or WebM", "avi": "AVI"}
CODECS = {"h264": "H.264", "hevc": "H.265", "vp8": "VP8", "vp9": "VP9", "av1": "AV1"}

# share by which what is declared may differ from what is measured
DECLARED_TOLERANCE = 0.05
# share of the frames that may fail to decode
MAX_DAMAGED = 0.1
# A file is read up to so many times its allowed size: up to there it only loses the points for its size.
OVERSIZE = 2
# a rate of 14.99 is 15
ROUNDING = 0.005


def limits(requirements: Mapping[str, Any]) -> dict[str, float]:
    """Return the limits that hold: the defaults, overridden by the prompt's requirements."""
    given = {name: requirements.get(name) for name in DEFAULT_LIMITS}
    return {name: DEFAULT_LIMITS[name] if value is None else value for name, value in given.items()}


def largest_file(requirements: Mapping[str, Any]) -> int:
    """Return how many bytes a file may have to be read at all."""
    return int(limits(requirements)["max_file_size_mb"] * 1e6) * OVERSIZE


def check(
    probe: Probe | None,
    size_bytes: int,
    declared: Declared | None,
    requirements: Mapping[str, Any],
    fault: str | None = None,
) -> list[Check]:
    """Return the seven checks of a file of `size_bytes`.

    `probe` is None where the file could not even be opened; `fault` is what was found wrong with it, in
    opening or in decoding. What is declared is right if it is what was measured, or what the file's own
    headers say, as a miner's tools show it. What is wrong by more than DECLARED_TOLERANCE costs the points of
    its check, without rejecting; `declared` is None where nothing is, and then nothing is compared.
    """
    bounds = limits(requirements)
    if probe is None:
        unknown = {name: "It could not be measured." for name in TECHNICAL_WEIGHTS if name != "file_size"}
        unknown["readable"] = f"The file is no usable video: {fault}"
        return [
            _check(name, None, None, [reason], rejects=name == "readable") for name, reason in unknown.items()
        ] + [_file_size(size_bytes, bounds)]
    return [
        _readable(probe, fault),
        _one_of("valid_format", probe.format, FORMATS, "container"),
        _one_of("valid_codec", probe.codec, CODECS, "codec"),
        _resolution(probe, declared, bounds),
        _fps(probe, declared, bounds),
        _duration(probe, declared, bounds),
        _file_size(size_bytes, bounds),
    ]


def score(checks: list[Check]) -> float:
    return technical_score({each.name: each.passed for each in checks})


def rejection(checks: list[Check]) -> str | None:
    """Return why the checks reject the video, or None if they do not."""
    reasons = [each.reason for each in checks if each.rejects and each.reason]
    return " ".join(reasons) or None


def _check(name: str, value: Any, threshold: Any, faults: list[str], rejects: bool | None = None) -> Check:
    """A check that failed if there are faults, and then rejects if the contract or `rejects` says so."""
    failed = bool(faults)
    return Check(
        name=name,
        passed=not failed,
        value=value,
        threshold=threshold,
        weight=TECHNICAL_WEIGHTS[name],
        reason=" ".join(faults) or None,
        rejects=failed and (name in REJECTING if rejects is None else rejects),
    )


def _readable(probe: Probe, fault: str | None) -> Check:
    faults = [f"The file is no usable video: {fault}"] if fault else []
    if len(probe.times) < 2:
        faults.append("The file holds a single picture, not a video. Upload the recording itself.")
    elif probe.present < MIN_PRESENT:
        faults.append(
            f"Only {probe.duration:.1f} s, {probe.present:.0%} of the video that the file declares, are "
            f"there, and {MIN_PRESENT:.0%} must be. Upload the whole file."
        )
    return _check("readable", round(probe.present, 4), MIN_PRESENT, faults)


def _one_of(name: str, value: str, accepted: Mapping[str, str], noun: str) -> Check:
    names = ", ".join(accepted.values())
    faults = [] if value in accepted else [f"The {noun} {value} is not accepted. Use {names}."]
    return _check(name, accepted.get(value, value), names, faults)


def _resolution(probe: Probe, declared: Declared | None, bounds: Mapping[str, float]) -> Check:
    width, height = probe.width, probe.height
    least = (bounds["min_width"], bounds["min_height"])
    faults = []
    if not any(w >= least[0] and h >= least[1] for w, h in ((width, height), (height, width))):
        faults.append(
            f"The picture of {width}x{height} is smaller than {least[0]:g}x{least[1]:g}. Film in more."
        )
    if declared:
        # a phone's portrait is declared either way
        sides = sorted((declared.width, declared.height))
        known = (sorted((width, height)), sorted(probe.coded_size))
        if all(_differs(sides[0], short) or _differs(sides[1], long) for short, long in known):
            faults.append(
                f"{declared.width}x{declared.height} is declared; it is {width}x{height}. Declare that."
            )
    return _check("resolution", f"{width}x{height}", f"at least {least[0]:g}x{least[1]:g}", faults)


def _fps(probe: Probe, declared: Declared | None, bounds: Mapping[str, float]) -> Check:
    least, most = bounds["min_fps"], bounds["max_fps"]
    faults = []
    if not least * (1 - ROUNDING) <= probe.fps <= most * (1 + ROUNDING):
        faults.append(
            f"{probe.fps:.2f} frames a second are not within {least:g} and {most:g}. Film at such a rate."
        )
    if declared and all(_differs(declared.fps, rate) for rate in (probe.fps, *probe.rates)):
        faults.append(f"{declared.fps:g} frames a second are declared; it has {probe.fps:.2f}. Declare that.")
    return _check("fps", round(probe.fps, 3), f"{least:g} to {most:g}", faults)


def _duration(probe: Probe, declared: Declared | None, bounds: Mapping[str, float]) -> Check:
    least, most = bounds["min_duration"], bounds["max_duration"]
    faults = []
    if outside := not least * (1 - ROUNDING) <= probe.duration <= most * (1 + ROUNDING):
        faults.append(
            f"The video lasts {probe.duration:.2f} s, not between {least:g} and {most:g} s. "
            f"{'Film for longer' if probe.duration < least else 'Cut it to that length'}."
        )
    known = (probe.duration, probe.declared_duration or probe.duration)
    if declared and all(_differs(declared.duration, length) for length in known):
        faults.append(f"{declared.duration:g} s are declared; it lasts {probe.duration:.2f} s. Declare that.")
    return _check("duration", round(probe.duration, 3), f"{least:g} to {most:g} s", faults, rejects=outside)


def _file_size(size_bytes: int, bounds: Mapping[str, float]) -> Check:
    most = bounds["max_file_size_mb"]
    megabytes = size_bytes / 1e6
    faults = (
        []
        if megabytes <= most
        else [
            f"The file of {megabytes:.1f} MB is larger than {most:g} MB. Encode it with fewer bits a second."
        ]
    )
    return _check("file_size", round(megabytes, 3), f"at most {most:g} MB", faults)


def _differs(declared: float, measured: float) -> bool:
    return abs(declared - measured) > DECLARED_TOLERANCE * measured
