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


def test_guided_groups_are_aligned(short):
    guided = [one for one in short.frames if one.guided and one.common >= 5]
    assert len(guided) >= 10
    assert all(one.accepted for one in guided)


def test_it_takes_less_than_half_a_second_for_two_megapixels():
    assert sum(campaign.large_frame_seconds(500)) < 0.5


def test_the_page_tells_the_command_and_the_figures(short):
    arguments = argparse.Namespace(groups=40, negatives=40, seed=20261122)
    text = campaign.page(short, arguments, 60.0, {500: (0.2, 0.02)})
    assert "--groups 40 --negatives 40 --seed 20261122" in text
    assert "| 500 | 0.20 | 0.02 |" in text
    whole = campaign.replaced("# Page\n\n## Simulated groups\n\nold\n\n## Next\n\nkept\n", text)
    assert whole.startswith("# Page\n\n## Simulated groups\n")
    assert "old" not in whole
    assert whole.endswith("\n\n## Next\n\nkept\n")
    assert f"| frames | {short.share(0.1):.3f} | {short.share(0.5):.3f} |" in text
