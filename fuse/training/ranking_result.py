"""From trained factors, an item-item part and a rating model to one ranking model: their vectors side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ..inputs.side_information import SideInformation
from ..models.factors import Vectors
from ..models.item_item import Spectrum
from ..models.ranking_model import RankingModel
from ..models.rating_part import RatingPart
from ..models.unrated_items import vectors_of_content
from .ranking_choice import Blend
from .ranking_member import RankingMember


@torch.no_grad()
def ranking_model(
    member: RankingMember,
    spectrum: Spectrum | None,
    ratings: RatingPart | None,
    blend: Blend,
    side: SideInformation,
    choice: Mapping[str, Any],
) -> RankingModel:
    """The model that serves, on the CPU. ``choice`` is what its settings say of how ``blend`` and the rest was chosen.

    Items without an interaction get the vectors that content predicts (`vectors_of_content`).
    """
    pairs, factors = member.pairs, member.factors
    blend = replace(blend, share=0.0) if spectrum is None else blend
    kept = 1 - blend.share
    vectors, parts = member.vectors(), factors.user_parts()
    user, implicit, explicit, base = (kept * value for value in (vectors.user, *parts))
    item = torch.cat([vectors.item[:, :-1], kept * vectors.item[:, -1:]], 1)
    if ratings is not None and blend.rating:
        added = ratings.times(blend.rating)
        user, item, implicit, explicit, base = (
            _before_the_bias(whole, part)
            for whole, part in (
                (user, added.user),
                (item, added.item),
                (implicit, added.implicit),
                (explicit, added.explicit),
                (base, added.base),
            )
        )
    item_item = torch.zeros(pairs.items, 0, device=item.device)
    if spectrum is not None and blend.share:
        part = spectrum.regression(blend.l2)
        item_item = blend.share * part.history
        user = _before_the_bias(user, blend.share * part.users(pairs))
        item = _before_the_bias(item, part.item)
    rated = pairs.item_counts > 0
    if not rated.all() and rated.any():
        item = torch.where(rated[:, None], item, vectors_of_content(side.item, side.tags, item, rated))
    residual = torch.zeros_like(pairs.rating) if factors.histories is None else factors.histories.item_residual
    tensors = {
        "implicit": implicit,
        "explicit": explicit,
        "item_item": item_item,
        "base": base,
        "residual": residual,
        "offsets": pairs.user_offsets,
        "items": pairs.item,
    }
    on_host = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    liked = residual[member.liked]
    settings = dict(choice) | {"share": blend.share, "own_row": member.own_row(), "own_width": factors.dim}
    settings["liked_residual"] = float(liked.mean()) if len(liked) else 0.0
    return RankingModel(Vectors(user.cpu(), item.cpu()), **on_host, settings=settings)


def _before_the_bias(whole: Tensor, part: Tensor) -> Tensor:
    """Further numbers of vectors whose last one is the bias."""
    return torch.cat([whole[..., :-1], part, whole[..., -1:]], -1)
