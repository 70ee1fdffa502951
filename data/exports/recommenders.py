"""Folders that multimodal recommenders read as they lie: MMRec's, RecBole's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..embeddings.file import EmbeddingFile
from ..runtime.errors import UsageError
from .interactions import Interactions
from .item_vectors import ItemVectors, Wanted, text_ids, write_matrix


def write_mmrec(file: EmbeddingFile, vectors: Sequence[ItemVectors], folder: Path, wanted: Wanted) -> None:
    """Write NAME/ (NAME.inter, image_feat.npy, text_feat.npy, id mappings) and configs/dataset/NAME.yaml.

    MMRec's users and items are numbered without gaps, and row i of a feature file is item i; x_label is 0, 1, 2 for
    train, validation, test. It fills nothing in: items without a vector get the mean (or zeros). Raises UsageError
    without a dataset.
    """
    if wanted.dataset is None:
        raise UsageError("--to mmrec: MMRec reads features and ratings together; name the ratings with --dataset")
    if wanted.missing == "drop":
        raise UsageError("--missing drop: MMRec needs a row for every item; expected mean or zero")
    ratings = Interactions.read(wanted.dataset, wanted.split, wanted.seed, file)
    place = folder / ratings.name
    place.mkdir()
    everything = np.ones(len(ratings.part), np.bool_)
    header = ["userID", "itemID", "rating", "timestamp", "x_label"]
    ratings.write(
        place / f"{ratings.name}.inter",
        everything,
        ratings.user_numbers,
        ratings.item_numbers,
        header=header,
        label=True,
    )
    for kind, names in (("i", ratings.item_names), ("u", ratings.user_names)):
        word = {"i": "item", "u": "user"}[kind]
        lines = [f"{word}_id\t{word}ID\n", *(f"{name}\t{number}\n" for number, name in enumerate(names))]
        (place / f"{kind}_id_mapping.csv").write_text("".join(lines), "utf-8")
    rated = np.zeros(len(file), np.bool_)
    rated[ratings.item_rows[ratings.item_rows >= 0]] = True
    for each in vectors:
        substitute = each.substitute(wanted.missing or "mean", rated)
        write_matrix(place / f"{each.name}_feat.npy", each, ratings.item_rows, substitute)
    (folder / "configs" / "dataset").mkdir(parents=True)
    config = {
        "USER_ID_FIELD": "userID",
        "ITEM_ID_FIELD": "itemID",
        "TIME_FIELD": "timestamp",
        "filter_out_cod_start_users": True,
        "inter_file_name": f"{ratings.name}.inter",
        "inter_splitting_label": "x_label",
        "vision_feature_file": "image_feat.npy",
        "text_feature_file": "text_feat.npy",
        "user_graph_dict_file": "user_graph_dict.npy",
        "field_separator": "\t",
    }
    (folder / "configs" / "dataset" / f"{ratings.name}.yaml").write_text(_yaml(config), "utf-8")


def write_recbole(file: EmbeddingFile, vectors: Sequence[ItemVectors], folder: Path, wanted: Wanted) -> None:
    """Write NAME/NAME.textemb and NAME.imageemb (floats with blanks between), and NAME.yaml that loads them.

    With a dataset the ratings go along as NAME.train.inter, NAME.valid.inter and NAME.test.inter. RecBole's model reads
    the matrix by `dataset.get_preload_weight("text_iid")`, a row for each of its own item numbers, zeros where an item
    has none.
    """
    missing = wanted.missing or "drop"
    ratings = None
    if wanted.dataset is not None:
        ratings = Interactions.read(wanted.dataset, wanted.split, wanted.seed, file)
    name = ratings.name if ratings else "items"
    place = folder / name
    place.mkdir()
    ids = text_ids(file.ids, file)
    for each in vectors:
        substitute = each.substitute(missing)
        with (place / f"{name}.{each.name}emb").open("w", encoding="utf-8") as out:
            out.write(f"{each.name}_iid:token\t{each.name}_emb:float_seq\n")
            for row in each.rows(missing).tolist():
                vector = each.values[row] if each.present[row] else substitute
                out.write(f"{ids[row]}\t{' '.join(np.asarray(vector).astype(str).tolist())}\n")
    config: dict[str, object] = {
        "data_path": ".",
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "additional_feat_suffix": [f"{each.name}emb" for each in vectors],
        "load_col": {
            "inter": [
                "user_id",
                "item_id",
                "rating",
                *(["timestamp"] if ratings and ratings.timestamp is not None else []),
            ],
            **{f"{each.name}emb": [f"{each.name}_iid", f"{each.name}_emb"] for each in vectors},
        },
        "alias_of_item_id": [f"{each.name}_iid" for each in vectors],
        "preload_weight": {f"{each.name}_iid": f"{each.name}_emb" for each in vectors},
    }
    if ratings is not None:
        config["benchmark_filename"] = ["train", "valid", "test"]
        for part, word in enumerate(("train", "valid", "test")):
            header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
            path = place / f"{name}.{word}.inter"
            ratings.write(path, ratings.part == part, ratings.users, ratings.items, header=header)
    (folder / f"{name}.yaml").write_text(_yaml(config), "utf-8")


def _yaml(config: dict[str, object]) -> str:
    """A mapping as YAML, of which JSON's values are a part."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items())
