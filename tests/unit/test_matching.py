import numpy as np
import pytest

from app.duplicates import matching
from tests.evaluation.footage import RATE, copied, film, flipped, hashes, mirrored


def compare(bits, other, rate=RATE, other_rate=RATE):
    """Match a video with another one as it is stored; return the shared share and the match."""
    plain, mirror = matching.fingerprints(hashes(bits, rate))
    stored = matching.fingerprints(hashes(other, other_rate))[0].thinned()
    found = matching.match(plain, mirror, stored)
    return len(found.frames) / len(plain), found


def test_two_frames_a_second_are_stored_and_what_starts_a_shot():
    bits = np.concatenate([film(1, 2.3), film(2, 2)])
    stored = matching.fingerprints(hashes(bits))[0].thinned()
    assert stored.seconds.tolist() == pytest.approx([0, 0.5, 1, 1.5, 2, 2.25, 2.75, 3.25, 3.75, 4.125])


def test_a_copy_shares_keys_and_a_stranger_does_not():
    ten = film(1, 10)
    stored = set(matching.fingerprints(hashes(ten))[0].thinned().keys())
    copy = matching.fingerprints(hashes(copied(ten, noise=20)))[0]
    assert len(stored & set(copy.sampled(60).keys())) > 3
    assert not stored & set(matching.fingerprints(hashes(film(2, 60)))[0].keys())
    assert all(-(2**31) <= key < 2**31 for key in stored)
    assert len(copy.sampled(1).keys()) == matching.BANDS


@pytest.mark.parametrize("noise", [0, 8, 24])
def test_a_copy_matches_throughout(noise):
    ten = film(1, 10)
    share, found = compare(copied(ten, noise), ten)
    (span,) = found.spans
    assert share == 1
    assert (span.start, span.end, span.mirrored) == (0, 9.875, False)
    assert (span.other_start, span.other_end) == pytest.approx((0, 9.875), abs=0.3)


def test_a_mirrored_copy_matches():
    ten = film(1, 10)
    share, found = compare(copied(mirrored(ten)), ten)
    assert share == 1 and all(span.mirrored for span in found.spans)


def test_a_trimmed_copy_tells_where_it_is_from():
    share, found = compare(copied(film(1, 20)[5 * RATE + 1 : 11 * RATE]), film(1, 20))
    (span,) = found.spans
    assert share == 1
    assert (span.other_start, span.other_end) == pytest.approx((5.1, 11), abs=0.3)


@pytest.mark.parametrize("rate", [RATE / 2, RATE / 1.5, RATE * 1.5])
def test_a_slower_or_faster_copy_matches(rate):
    ten = film(1, 10)
    share, found = compare(copied(ten), ten, rate)
    assert share > 0.95
    assert max(span.other_end for span in found.spans) == pytest.approx(9.8, abs=0.5)


def test_a_copy_played_backwards_matches():
    ten = film(1, 10)
    assert compare(copied(ten[::-1]), ten)[0] > 0.95


def test_of_a_concatenation_only_the_copied_half_matches():
    share, found = compare(np.concatenate([film(2, 10), copied(film(1, 10))]), film(1, 10))
    (span,) = found.spans
    assert share == pytest.approx(0.5, abs=0.03)
    assert (span.start, span.end) == pytest.approx((10, 19.9), abs=0.3)


def test_two_copied_stretches_are_two_spans():
    ten = film(1, 10)
    mixed = np.concatenate([copied(ten[: 3 * RATE]), film(2, 4), copied(ten[6 * RATE :])])
    share, found = compare(mixed, ten)
    assert len(found.spans) == 2 and share == pytest.approx(7 / 11, abs=0.05)


@pytest.mark.parametrize("seed", range(20))
def test_different_videos_do_not_match(seed):
    assert compare(film(seed, 30), film(seed + 100, 30))[0] == 0


@pytest.mark.parametrize("seed", range(20))
def test_two_takes_before_a_fixed_camera_are_no_copies(seed):
    one, other = (film(seed + take, 10, motion=3, scene=seed) for take in (1000, 2000))
    assert compare(one, other)[0] == 0
    assert compare(copied(one, noise=2), one)[0] == 1


@pytest.mark.parametrize("seed", range(5))
def test_before_a_fixed_camera_only_what_is_the_same_is_looked_at(seed):
    one, other = (film(seed + take, 300, motion=3, scene=seed)[::4] for take in (1000, 2000))
    assert compare(one, other, rate=2, other_rate=2)[1].lines == 0
    share, found = compare(copied(one[200:400], noise=2), one, rate=2, other_rate=2)
    assert (share, found.lines) == (1, 1)


def test_a_part_of_a_copy_before_a_fixed_camera_is_found_among_other_footage():
    ten = film(1, 10, motion=3)
    share, _ = compare(np.concatenate([film(2, 20), copied(ten[20:], noise=4)]), ten)
    assert share == pytest.approx(60 / 220, abs=0.03)


def test_of_lines_no_more_are_tried_than_allowed():
    whole = film(1, 40)
    pieces = np.concatenate([whole[start * RATE : (start + 4) * RATE] for start in (30, 20, 10, 0)])
    plain, mirror = matching.fingerprints(hashes(pieces))
    found = [
        matching.match(plain, mirror, matching.fingerprints(hashes(whole))[0], most) for most in range(6)
    ]
    assert [match.lines for match in found] == [0, 1, 2, 3, 4, 4]
    assert [len(match.frames) // (4 * RATE) for match in found] == [0, 1, 2, 3, 4, 4]


def test_a_moment_may_differ_by_31_bits():
    ten = film(1, 10)
    assert compare(copied(ten, noise=31), ten)[0] == 1
    assert compare(copied(ten, noise=32), ten)[0] == 0


@pytest.mark.parametrize(("noise", "matched"), [(60, 1), (61, 0.5)])
def test_a_moment_may_differ_by_60_bits_on_a_line_of_others(noise, matched):
    whole = film(1, 20)[::4]
    mixed = copied(whole)
    mixed[20:] = copied(whole[20:], noise)
    share, _ = compare(mixed, whole, rate=2, other_rate=2)
    assert share == pytest.approx(matched, abs=0.03)


def test_before_a_fixed_camera_a_copied_part_is_no_more_than_that_part():
    one, other = (film(seed, 20, motion=3, scene=1)[::4] for seed in (1, 2))
    share, _ = compare(np.concatenate([copied(one[:20], noise=2), other[20:]]), one, rate=2, other_rate=2)
    assert share == pytest.approx(0.5, abs=0.1)


def rig(take):
    """A take of a robot before a fixed camera: it rests, moves in its own way, and rests again."""
    random = np.random.default_rng(take)
    home = film(1, 1 / RATE)[0]
    first, last = (np.tile(home, (random.integers(6, 30), 1)) for _ in range(2))
    bits = [*first]
    for _ in range(4 * RATE):
        bits.append(flipped(bits[-1], 4, random))
    return np.array([*bits, *bits[:-RATE:-1], *last])


@pytest.mark.parametrize("take", range(1, 9))
def test_one_resting_pose_is_like_another(take):
    one, other = copied(rig(0), noise=1), copied(rig(take), noise=1, seed=take)
    share, found = compare(other, one)
    assert share == 0
    plain, stored = (matching.fingerprints(hashes(bits))[0] for bits in (other, one))
    assert matching.joint(plain, stored.thinned(), found) is None
    # and yet a copy is known by what moves
    assert compare(copied(one, noise=3), one)[0] > 0.4


def test_short_spans_are_not_of_one_recording():
    ten = film(1, 10)

    def goes_on(seconds):
        taken = ten[5 * RATE : int((5 + seconds) * RATE)]
        return _one_recording(np.concatenate([taken, _continued(taken[-1], 12 - seconds)]), ten)

    assert not goes_on(1.5) and goes_on(3)


def _continued(frame, seconds):
    frames = [frame]
    random = np.random.default_rng(5)
    while len(frames) <= seconds * RATE:
        frames.append(flipped(frames[-1], 12, random))
    return np.array(frames[1:])


def test_a_stretch_of_less_than_a_second_is_chance():
    def spliced(frames):
        return compare(
            np.concatenate([film(2, 5), copied(film(1, 10)[16 : 16 + frames]), film(3, 5)]), film(1, 10)
        )

    share, found = spliced(7)
    # its line is not tried again
    assert (share, found.lines) == (0, 1)
    assert spliced(12)[0] == pytest.approx(12 / 92, abs=0.02)


def test_a_video_of_less_than_a_second_matches_as_a_whole():
    six = copied(film(1, 10)[16:22])
    assert compare(six, film(1, 10))[0] == 1
    assert compare(np.concatenate([six[:5], film(2, 1 / RATE)]), film(1, 10))[0] == 0


@pytest.mark.parametrize(("seconds", "spans"), [(1.5, 1), (2.5, 2)])
def test_a_gap_of_two_seconds_ends_a_span(seconds, spans):
    mixed = copied(film(1, 20))
    mixed[64 : 64 + int(seconds * RATE)] = film(2, seconds)
    assert len(compare(mixed, film(1, 20))[1].spans) == spans


def test_speeds_are_tried_from_real_time_on_and_forwards_first():
    assert matching.SPEEDS[0] == 1
    assert (matching.SPEEDS[:31] > 0).all()
    for direction in (1, -1):
        changes = np.abs(np.log(np.abs(matching.SPEEDS[np.sign(matching.SPEEDS) == direction])))
        assert len(changes) == 31
        assert (np.diff(changes) >= -1e-9).all()


def line(pairs, seconds=(0, 1, 2, 3)):
    """The line through pairs of a frame of a video and one of another video, which has 40 of them."""
    rows, columns = np.array(pairs).T
    return matching._best_line(rows, columns, np.array(seconds, np.float32), np.arange(40, dtype=np.float32))


def test_a_line_goes_through_two_frames_at_least():
    assert line([(0, 20), (1, 21)]) == (1, 20)
    assert line([(1, 20), (2, 21)]) == (1, 19)
    assert line([(1, 20)]) is None


def test_of_very_many_pairs_a_spread_is_looked_at():
    rows = np.arange(matching.MAX_PAIRS + 1000)
    seconds = np.arange(len(rows) + 10, dtype=np.float32)
    assert matching._best_line(rows, rows + 10, seconds[: len(rows)], seconds) == (1, 10)


def test_a_line_is_chosen_by_the_frames_on_it_not_by_their_pairs():
    dense = np.concatenate([np.arange(20, 20.4, 0.1), np.arange(31, 34)]).astype(np.float32)
    rows, columns = np.array([(0, 0), (0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (3, 6)]).T
    found = matching._best_line(rows, columns, np.arange(4, dtype=np.float32), dense)
    assert found == (1, 30)


def test_the_most_alike_are_a_tenth_of_the_finite_numbers():
    rows = np.array([[*range(20, 0, -1), np.inf], [np.inf] * 20 + [7], [np.inf] * 21], np.float32)
    assert matching._most_alike(rows).tolist() == [3, 7, np.inf]


def test_a_sample_has_the_first_and_the_last_frame():
    ten = matching.fingerprints(hashes(film(1, 10)))[0]
    assert ten.sampled(3).seconds.tolist() == pytest.approx([0, 5, 9.875])
    assert ten.sampled(500).seconds.tolist() == ten.seconds.tolist()
    assert (ten.sampled(3).hashes == ten.hashes[[0, 40, 79]]).all()


@pytest.mark.parametrize(
    ("same", "noise", "shown"),
    [(1, 80, False), (39, 80, False), (40, 80, True), (79, 80, True), (40, 81, False)],
)
def test_the_same_place_is_seen_if_half_of_the_frames_see_it(same, noise, shown):
    still, other = film(1, 10, motion=0), film(2, 10)
    seen = np.concatenate([copied(still[:same], noise), film(3, (80 - same) / RATE)])
    plain, stored = (
        matching.fingerprints(hashes(bits))[0] for bits in (seen, np.concatenate([still, other]))
    )
    assert matching.shows_same_place(plain, stored) == shown


def test_nothing_matches_nothing():
    empty = matching.fingerprints(())
    ten = matching.fingerprints(hashes(film(1, 10)))
    assert not matching.match(*empty, ten[0]).frames
    assert not matching.match(*ten, empty[0]).frames
    assert not matching.shows_same_place(empty[0], ten[0])
    assert not matching.shows_same_place(ten[0], empty[0])
    for one, other in ((empty, ten), (ten, empty)):
        assert matching.joint(one[0], other[0], matching.match(*one, other[0])) is None
    assert not len(empty[0].thinned())


def _one_recording(bits, other):
    plain, mirror = matching.fingerprints(hashes(bits))
    stored = matching.fingerprints(hashes(other))[0].thinned()
    return matching.joint(plain, stored, matching.match(plain, mirror, stored)) is not None


def test_pieces_of_one_recording_are_known_where_they_meet():
    whole = film(1, 20)
    first, second = whole[: 10 * RATE], whole[10 * RATE :]
    assert _one_recording(second, first) and _one_recording(first, second)
    # and where they overlap
    assert _one_recording(whole[6 * RATE : 16 * RATE], first)
    assert _one_recording(whole, first)


def test_one_recording_is_known_by_a_span_that_begins_or_ends_without_a_cut():
    whole, strange = film(1, 20), film(2, 5)
    first = whole[: 10 * RATE]
    # it begins by a cut and goes on where the copied span ends; or the other way round
    assert _one_recording(np.concatenate([strange, whole[4 * RATE : 14 * RATE]]), first)
    assert _one_recording(
        np.concatenate([whole[6 * RATE : 16 * RATE], strange]), whole[10 * RATE : 16 * RATE]
    )


def test_a_video_shorter_than_any_other_moment_adjoins_nothing():
    whole = film(1, 4)
    assert not _one_recording(whole[2 * RATE :], whole[RATE // 2 : 2 * RATE])


def test_other_recordings_are_not_taken_for_pieces():
    first = film(1, 10)
    assert not _one_recording(film(2, 10), first)
    # a copy spliced into other footage by cuts
    assert not _one_recording(np.concatenate([film(2, 5), copied(first[16:40]), film(3, 5)]), first)
    # a take that begins in the view which another both began and ended in
    home = np.concatenate([first, first[::-1]])
    assert not _one_recording(np.concatenate([first[:1], film(5, 10)]), home)
