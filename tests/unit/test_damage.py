import pytest

from app.video.damage import damaged, undefined

FRAMES = "[verbose] Input stream #0:0 (video): 100 packets read (1 bytes); 50 frames decoded; \n"
FFMPEG_5 = {
    "unclean": "[warning] video.mp4: corrupt decoded frame in stream 0\n",
    "failed": "[error] Error while decoding stream #0:0: Invalid data found when processing input\n",
}
FFMPEG_9 = {
    "unclean": "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] [warning] corrupt decoded frame\n",
    "failed": "[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] [error] Decoding error: Invalid data found\n",
}
CONCEALED = "[h264 @ 0x1] [info] concealing 80 DC, 80 AC, 80 MV errors in P frame\n"


def test_packets_without_a_picture_are_no_damage():
    assert damaged(FRAMES, 100) == 0


@pytest.mark.parametrize("says", [FFMPEG_5, FFMPEG_9], ids=["5.1", "9"])
def test_what_the_decoder_reports_is_damage(says):
    assert damaged(3 * says["unclean"], 100) == pytest.approx(0.03)
    assert damaged(3 * says["unclean"] + 2 * says["failed"], 100) == pytest.approx(0.05)
    # the same pictures: 5.1 tells fewer of them a second time than 9 does
    assert damaged(4 * CONCEALED + 3 * says["unclean"], 100) == pytest.approx(0.04)
    assert damaged(300 * says["failed"], 100) == 1


@pytest.mark.parametrize("says", [FFMPEG_5, FFMPEG_9], ids=["5.1", "9"])
def test_a_packet_of_parameters_is_no_damage(says):
    assert damaged("[h264 @ 0x1] [error] no frame!\n" + says["failed"], 100) == 0


def test_a_picture_whose_references_are_gone_is_damage():
    lost = "[hevc @ 0x1] [error] Error constructing the frame RPS.\n"
    assert damaged(30 * lost, 100) == pytest.approx(0.3)
    # 5.1 reports the packets as well
    assert damaged(30 * (lost + FFMPEG_5["failed"]), 100) == pytest.approx(0.3)


def test_what_is_never_decoded_at_the_end_is_damage():
    assert damaged(FRAMES, 100, uncovered=0.4) == pytest.approx(0.4)
    assert damaged(FRAMES, 100, uncovered=-0.1) == 0


def test_what_two_runs_show_differently_is_left_out_up_to_the_next_keyframe():
    keyframes = (0.0, 1.0, 2.0, 3.0)
    assert undefined([], keyframes) == []
    assert undefined([1.4, 1.3, 1.9], keyframes) == [(1.3, 2.0)]
    # a keyframe that differs is no end
    assert undefined([0.2, 1.0, 3.5], keyframes) == [(0.2, 1.0), (1.0, 2.0), (3.5, float("inf"))]
