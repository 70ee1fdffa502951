"""Laws of ratings whose users do not all use the same levels: no group is predicted too low or too high for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cinefuse.fuse.inputs.side_information import SideInformation
from cinefuse.fuse.inputs.training_data import TrainingData
from cinefuse.fuse.settings.config import Head
from cinefuse.fuse.settings.presets import preset
from cinefuse.fuse.training.loop import Training

USERS, ITEMS, EACH = 160, 120, 60
IDS_ALONE = replace(preset("best"), modalities="none", text_components=0, image_components=0, members=1, refit=False)


def ratings_on_two_grids() -> tuple[TrainingData, Tensor]:
    """Ratings in half stars by users of even number and in whole stars by the others; and which are in whole stars."""
    generator = torch.Generator().manual_seed(0)
    user = torch.arange(USERS).repeat_interleave(EACH)
    item = torch.cat([torch.randperm(ITEMS, generator=generator)[:EACH] for _ in range(USERS)])
    user_taste, item_taste = (0.7 * torch.randn(count, 3, generator=generator) for count in (USERS, ITEMS))
    liking = 3.3 + (user_taste[user] * item_taste[item]).sum(1) + 0.5 * torch.randn(ITEMS, generator=generator)[item]
    liking += 0.7 * torch.randn(len(user), generator=generator)
    whole = user % 2 == 1
    rating = torch.where(whole, liking.round().clamp(1, 5), ((2 * liking).round() / 2).clamp(0.5, 5))
    held_out = torch.rand(len(user), generator=generator) < 0.2
    data = TrainingData(
        users=USERS,
        items=ITEMS,
        user=user,
        item=item,
        rating=rating,
        train=torch.nonzero(~held_out)[:, 0],
        validation=torch.nonzero(held_out)[:, 0],
        side=SideInformation(torch.zeros(USERS, 0), torch.zeros(ITEMS, 0), torch.zeros(ITEMS, 0)),
        tables={},
        components={},
        device=torch.device("cpu"),
    )
    return data, whole


@pytest.mark.slow
@pytest.mark.parametrize("head", ["auto", "ordinal", "squared"])
def test_users_of_whole_stars_among_users_of_half_stars_are_predicted_without_bias(head: Head) -> None:
    data, whole = ratings_on_two_grids()
    (fitted,) = Training(replace(IDS_ALONE, head=head), data).run()
    user, item, rating = (part[data.validation] for part in (data.user, data.item, data.rating))
    error = fitted.head.ratings(fitted.vectors.pair_scores(user, item), user).detach() - rating
    for group in (whole[data.validation], ~whole[data.validation]):
        assert abs(float(error[group].mean())) < 0.05
