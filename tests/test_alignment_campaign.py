"""The campaign of docs/alignment.md, in short: its figures hold for another seed."""

import argparse

import pytest

from tools import alignment_campaign as campaign


@pytest.fixture(scope="module")
def short() -> campaign.Campaign:
    return campaign.run(groups=40, negatives=40, seed=20261122)


def test_no_wrong_alignment_is_accepted(short):
    assert short.wrong == []


def test_frames_are_where_they_belong(short):
    assert short.share(0.5) >= 0.93
    assert short.share(0.1) >= 0.80
    assert short.share(0.5, fewest=5) >= 0.99


def test_flips_are_found(short):
    flipped = [one for one in short.frames if one.flipped and one.common >= 5]
    assert len(flipped) >= 3
    assert all(one.accepted for one in flipped)


def test_every_refusal_says_of_what_kind_it_is(short):
    refused = [one for group in short.groups for one in group if not one.accepted] + short.negatives
    kinds = {campaign.kind_of(one.refusal) for one in refused}
    assert kinds <= {
        "too few stars",
        "too few stars agree",
        "too few of its stars agree",
        "no pattern of stars is common to both",
        "its scale differs",
        "its stars agree badly",
        "the match may be chance",
    }
    assert all(campaign.kind_of(one.refusal) == "too few stars" for one in short.empty)


def test_it_takes_less_than_half_a_second_for_two_megapixels(short):
    pixels = campaign.SHAPE[0] * campaign.SHAPE[1]
    assert (short.find_seconds * 1.9e6 / pixels + short.match_seconds) < 0.8  # 0.5 on a quiet machine


def test_the_page_tells_the_command_and_the_figures(short):
    arguments = argparse.Namespace(groups=40, negatives=40, seed=20261122)
    text = campaign.page(short, arguments, 60.0)
    assert "--groups 40 --negatives 40 --seed 20261122" in text
    assert f"| frames | {short.share(0.1):.3f} | {short.share(0.5):.3f} |" in text
