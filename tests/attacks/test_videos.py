"""Attacks by video files: stolen footage in every disguise, objects that change, and files that cost."""

import os
import threading

import numpy as np
import requests

from tests.attacks.arena import noise
from tests.processes import eventually
from tests.videos import footage, run_ffmpeg

H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "16", "-pix_fmt", "yuv420p")
SHAPE = "scale=640:480,setsar=1,fps=25"
# stolen footage is bright and filler dark, so that a picture tells which of them it shows
STOLEN, FILLER, BRIGHT = "eq=brightness=0.3", "eq=brightness=-0.3:contrast=0.7", 128
FILMED = {"duration_sec": 5.0, "resolution_width": 640, "resolution_height": 480, "fps": 25.0}


def encoded(videos, name, filters, *options):
    """Five seconds of real footage, as FILMED unless the filters change that."""
    path = videos.directory / f"{name}.mp4"
    run_ffmpeg("-i", footage("bikes"), "-t", 5, "-an", "-vf", f"{SHAPE},{filters}", *H264, *options, path)
    return path


def spliced(videos, name, when, *options):
    """Five seconds of filler that shows stolen footage in the frames that the expression `when` tells."""
    path = videos.directory / f"{name}.mkv"
    graph = f"[0:v]{SHAPE},{FILLER}[a];[1:v]{SHAPE},{STOLEN}[b];[a][b]overlay=enable='{when}'"
    inputs = ("-i", footage("bunny"), "-i", footage("bikes"))
    run_ffmpeg(*inputs, "-filter_complex", graph, "-t", 5, "-an", *H264, *options, path)
    return path


def by_sight(server, handler, request):
    """The answer of a judge to whom stolen frames look like the task, and filler does not."""
    bright = [np.asarray(image.convert("L")).mean() > BRIGHT for image in request.images]
    share = float(np.mean(bright))
    fields = {"action_match": share, "demonstration_quality": share, "training_utility": share}
    handler.send_json(200, server.completion(request, server.reply(request, **fields)))


def reencoding(chance):
    """A name, filters and options of another encoding of a video, and what it is then."""
    width, height = chance.choice([(640, 480), (560, 420), (512, 384)])
    fps = chance.choice([15, 20, 25])
    extra = chance.choice(["", ",hflip", ",eq=brightness=0.05", ",eq=saturation=0.5"])
    crf = chance.randrange(20, 33)
    declared = FILMED | {"resolution_width": width, "resolution_height": height, "fps": fps}
    return f"crf {crf}{extra}", f"fps={fps},scale={width}:{height}{extra}", ("-crf", crf), declared


def test_stolen_frames_between_filler_earn_nothing(busy, videos, chance, attack):
    gop, step, flicker = chance.randrange(6, 13), chance.randrange(9, 13), chance.choice([1, 2, 3, 5, 8])
    keyframes = ("-g", gop, "-keyint_min", gop, "-sc_threshold", 0, "-bf", 0)
    kinds = {
        f"at every keyframe, each {gop}.": (f"not(mod(n,{gop}))", *keyframes),
        f"each {step}. frame": (f"eq(mod(n,{step}),{chance.randrange(step)})",),
        f"to and fro every {flicker} frames": (f"mod(floor(n/{flicker}),2)",),
    }
    [filmed] = busy.results(
        [busy.submit("filmer", busy.prompt(), encoded(videos, "filmed", STOLEN), **FILMED)]
    )
    assert filmed["status"] == "SCORED"
    for number, (name, how) in enumerate(kinds.items()):
        path = spliced(videos, f"spliced-{number}", *how)
        # of its own: what is rejected would be known to the next
        prompt = busy.prompt()
        busy.vlm.always(by_sight, when=prompt)
        with attack("1 stolen frames", name, busy.spent) as it:
            [result] = busy.results([busy.submit(f"thief {number}", prompt, path, **FILMED)])
            it.outcome = f"{result['status']}: {result['evaluation']['rejection_reason']}"
        assert (result["status"], result["evaluation"]["final_score"]) == ("REJECTED", 0), name


def test_light_copies_of_a_heavy_film_are_not_paid(busy, videos, chance, attack):
    prompt = busy.prompt()
    heavy = encoded(videos, "heavy", "scale=1920:1440", "-crf", 10)
    copies = [reencoding(chance) for _ in range(chance.randrange(2, 4))]
    files = [
        encoded(videos, f"light-{n}", filters, *options) for n, (_, filters, options, _) in enumerate(copies)
    ]
    declared = FILMED | {"resolution_width": 1920, "resolution_height": 1440}
    tried = "heavy first, then " + "; ".join(name for name, *_ in copies)
    with attack("2 order of evaluation", tried, busy.spent) as it:
        uuids = [busy.submit("filmer", prompt, heavy, **declared)]
        uuids += [busy.submit(f"copier {n}", prompt, files[n], **copy[3]) for n, copy in enumerate(copies)]
        busy.results(uuids)
        # the last of them may have corrected the others
        found = [each["status"] for each in busy.results(uuids)]
        it.outcome = f"{found[0]}, {found.count('REJECTED')} of {len(copies)} copies REJECTED"
    assert found == ["SCORED"] + ["REJECTED"] * len(copies)


def test_an_object_that_is_written_over_all_the_time_delays_nobody_for_long(busy, videos, chance, attack):
    prompt = busy.prompt()
    content = noise(videos, chance).read_bytes()
    upload = busy.upload("churner", content)
    over = threading.Event()

    def churn():
        while not over.is_set():
            requests.put(
                upload["upload_url"], data=os.urandom(len(content)), headers=upload["headers"], timeout=60
            )

    def ended():
        busy.skip_waits()
        row = "SELECT coalesce(status, 'x'), held_at FROM submissions WHERE uuid = %s"
        [[status, held_at]] = busy.ask(row, (uuid,))
        return "held for review" if held_at else status == "REJECTED" and status

    with attack("2 order of evaluation", "object written over all the time", busy.spent) as it:
        uuid = busy.submit_uploaded("churner", prompt, upload["video_key"], content)
        churner = threading.Thread(target=churn)
        churner.start()
        try:
            ending = eventually(ended, 180)
        finally:
            over.set()
            churner.join()
        attempts = busy.submission(uuid)["attempts"]
        it.outcome = f"{ending} after {attempts} attempts, {busy.paid(prompt)} calls"
    assert attempts <= 3 and busy.paid(prompt) == 0


def test_footage_of_low_contrast_is_paid_once(busy, videos, chance, attack):
    prompt = busy.prompt()
    contrast = chance.uniform(0.1, 0.3)
    uuids = []
    with attack(
        "3 low contrast", f"contrast {contrast:.2f}, three encodings by one hotkey", busy.spent
    ) as it:
        for number in range(3):
            path = encoded(
                videos, f"pale-{number}", f"eq=contrast={contrast}", "-crf", chance.randrange(14, 28)
            )
            uuids.append(busy.submit("pale", prompt, path, **FILMED))
        found = [each["status"] for each in busy.results(uuids)]
        it.outcome = f"{found.count('SCORED')} of 3 SCORED"
    assert found.count("SCORED") <= 1


def test_the_judge_is_not_paid_for_known_footage(busy, videos, chance, attack):
    liked, disliked = busy.prompt(), busy.prompt()
    busy.vlm.answer_with(when=disliked, action_match=0.05)
    for number, prompt in enumerate((liked, disliked)):
        path = encoded(videos, f"known-{number}", "null" if prompt == liked else "reverse,negate")
        [result] = busy.results([busy.submit(f"first {number}", prompt, path, **FILMED)])
        assert (result["status"] == "SCORED") == (prompt == liked)
        calls = busy.paid(prompt)
        name, filters, options, declared = reencoding(chance)
        again = videos.directory / f"again-{number}.mp4"
        run_ffmpeg("-i", path, "-vf", filters, *H264, *options, again)
        kind = "scored" if prompt == liked else "rejected for relevance"
        with attack("8 known footage", f"what was {kind}, again: {name}", busy.spent) as it:
            [copy] = busy.results([busy.submit(f"second {number}", prompt, again, **declared)])
            it.outcome = f"{copy['status']}, {busy.paid(prompt) - calls} calls"
        assert (copy["status"], busy.paid(prompt)) == ("REJECTED", calls)


def test_a_costly_file_is_refused_before_it_is_decoded(busy, videos, chance, attack):
    """One 8K keyframe, thousands of times: half a megabyte that would take minutes to decode."""
    size = chance.choice(["7680x4320", "4320x7680", "8192x4096"])
    frames, milliseconds = chance.randrange(5000, 8000), chance.randrange(8, 17)
    one, many = videos.directory / "one.mkv", videos.directory / "many.mkv"
    av1 = ("-c:v", "libsvtav1", "-preset", "13", "-crf", "63", "-pix_fmt", "yuv420p")
    run_ffmpeg("-f", "lavfi", "-i", f"color=gray:s={size}", "-frames:v", 1, *av1, one)
    timed = f"setts=ts=N*{milliseconds}"
    run_ffmpeg("-stream_loop", frames - 1, "-i", one, "-c", "copy", "-bsf:v", timed, many)
    width, height = map(int, size.split("x"))
    declared = {"duration_sec": frames * milliseconds / 1000, "fps": 1000 / milliseconds}
    declared |= {"resolution_width": width, "resolution_height": height}
    tried = f"{many.stat().st_size // 1024} KiB of {frames} frames of {size}"
    with attack("10 costly decoding", tried, busy.spent) as it:
        [result] = busy.results([busy.submit("glutton", busy.prompt(), many, **declared)])
        it.outcome = f"{result['status']}: {result['evaluation']['rejection_reason']}"
    assert "takes too long" in result["evaluation"]["rejection_reason"]
