"""Vectors for nearest-neighbour indexes, scikit-learn, Cornac, Elliot: arrays beside ids, or a file for each item."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..embeddings.file import EmbeddingFile
from .interactions import Interactions
from .item_vectors import ItemVectors, Wanted, text_ids, write_matrix


def write_vectors(file: EmbeddingFile, vectors: Sequence[ItemVectors], folder: Path, wanted: Wanted) -> None:
    """Write MODALITY.npy, (K, D) float32, and MODALITY_ids.txt with the id of each row; ids.txt where all agree.

    Ids are text, as Cornac maps them. By default the items without a vector are left out.
    """
    missing = wanted.missing or "drop"
    ids = text_ids(file.ids, file)
    kept = []
    for each in vectors:
        rows = each.rows(missing)
        write_matrix(folder / f"{each.name}.npy", each, rows, each.substitute(missing))
        kept.append("".join(f"{ids[row]}\n" for row in rows.tolist()))
        (folder / f"{each.name}_ids.txt").write_text(kept[-1], "utf-8")
    if len(set(kept)) == 1:
        (folder / "ids.txt").write_text(kept[0], "utf-8")


def write_elliot(file: EmbeddingFile, vectors: Sequence[ItemVectors], folder: Path, wanted: Wanted) -> None:
    """Write a folder for each modality with <whole number>.npy, (D,) float32, for each item that has a vector.

    Elliot's items are whole numbers: ids of text are numbered in their order, and item_mapping.tsv says how. With a
    dataset the ratings go along as train.tsv, val.tsv and test.tsv, and NAME.yml names it all.
    """
    missing = wanted.missing or "drop"
    ratings = None
    if wanted.dataset is not None:
        ratings = Interactions.read(wanted.dataset, wanted.split, wanted.seed, file)
    are_numbers = file.ids.dtype.kind == "i"
    numbers = file.ids if are_numbers else np.arange(len(file))
    number_of = {} if are_numbers else {text: number for number, text in enumerate(text_ids(file.ids, file))}
    for name in ratings.item_names if ratings and not are_numbers else []:
        number_of.setdefault(str(name), len(number_of))  # rated, and not in the file: it has a number all the same
    _write_mapping(folder / "item_mapping.tsv", number_of)
    for each in vectors:
        (folder / each.name).mkdir()
        substitute = each.substitute(missing)
        for row in each.rows(missing).tolist():
            vector = each.values[row] if each.present[row] else substitute
            np.save(folder / each.name / f"{numbers[row]}.npy", np.asarray(vector), allow_pickle=False)
    if ratings is None:
        return
    items = ratings.items if are_numbers else np.array([number_of[str(item)] for item in ratings.items.tolist()])
    users = ratings.user_numbers if ratings.users_are_text else ratings.users
    if ratings.users_are_text:
        _write_mapping(folder / "user_mapping.tsv", {name: number for number, name in enumerate(ratings.user_names)})
    for part, name in enumerate(("train", "val", "test")):
        ratings.write(folder / f"{name}.tsv", ratings.part == part, users, items, header=None)
    (folder / f"{ratings.name}.yml").write_text(_elliot_config(ratings.name, [each.name for each in vectors]), "utf-8")


def _write_mapping(path: Path, number_of: dict[str, int]) -> None:
    if number_of:
        path.write_text("".join(f"{name}\t{number}\n" for name, number in number_of.items()), "utf-8")


def _elliot_config(name: str, modalities: Sequence[str]) -> str:
    loaders = {
        "image": "      - dataloader: VisualAttribute\n        visual_features: ../data/{0}/image\n",
        "text": "      - dataloader: TextualAttribute\n        textual_features: ../data/{0}/text\n",
    }
    return (
        "# a part of an Elliot experiment: this folder is data/" + name + ", and `models` is yours to add\n"
        "experiment:\n"
        "  backend: pytorch\n"
        "  data_config:\n"
        "    strategy: fixed\n"
        "    train_path: ../data/{0}/train.tsv\n"
        "    validation_path: ../data/{0}/val.tsv\n"
        "    test_path: ../data/{0}/test.tsv\n"
        "    side_information:\n" + "".join(loaders[modality] for modality in modalities) + f"  dataset: {name}\n"
    )
