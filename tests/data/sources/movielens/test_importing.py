"""Laws of importing MovieLens: three generations exactly as GroupLens writes them, plots and posters joined by id."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from cinefuse.data.dataset.assembly import Choices
from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.dataset.summary import dataset_info
from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.data.sources.movielens.importing import import_movielens

SHARED = Path(__file__).parents[4] / ".." / "shared" / "data"

# fmt: off
GENRES = [
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy",
    "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]
# fmt: on


def film_line(key: int, title: str, released: str, *genres: str) -> str:
    return "|".join([str(key), title, released, "", "http://x", *("01"[name in genres] for name in GENRES)]) + "\n"


U_DATA = ["1\t1\t5\t881250949\n", "1\t2\t3\t891717742\n", "2\t3\t1\t878887116\n", "2\t1\t4\t880606923\n"]
ML_100K = {
    "u.data": "".join(U_DATA),
    "u.item": film_line(1, "Toy Story (1995)", "01-Jan-1995", "Animation", "Comedy")
    + film_line(2, "Cité des enfants perdus, La (1995)", "01-Jan-1995", "Drama")
    + film_line(3, "unknown", "", "unknown")
    + film_line(9, "Matrix, The", "31-Mar-1999"),
    "u.genre": "".join(f"{name}|{number}\n" for number, name in enumerate(GENRES)) + "\n",
    "u.user": "1|24|M|technician|85711\n2|53|F|other|E2C1A\n",
    "u1.base": "".join([U_DATA[3], U_DATA[0]]),
    "u1.test": "".join([U_DATA[1], U_DATA[2]]),
    "ua.base": "".join(U_DATA[:3]),
    "ua.test": U_DATA[3],
}
ML_1M = {
    "ratings.dat": "1::1::5::978300760\n1::3::4::978302109\n6::1::1::978301968\n",
    "movies.dat": "1::Toy Story (1995)::Animation|Comedy\n2::Misérables, Les (1995)::Drama\n"
    "3::Star::Trek: First Contact (1996)::Sci-Fi\n",
    "users.dat": "1::F::1::10::48067\n6::M::50::9::55117-1234\n",
}
ML_CSV = {
    "ratings.csv": "userId,movieId,rating,timestamp\n1,1,4.0,964982703\n1,300000,0.5,964981247\n7,1,3.5,964982224\n",
    "movies.csv": "movieId,title,genres\n1,Toy Story (1995),Adventure|Animation\n"
    '2,"American ""Pie"", The (1999)",Comedy\n'
    "300000,Babylon 5,(no genres listed)\n4,Show (2015–2018) ,Drama\n",
    "links.csv": "movieId,imdbId,tmdbId\n1,0114709,862\n2,0113497,8844\n300000,0105954,\n",
    "tags.csv": "userId,movieId,tag,timestamp\n1,1,funny,1445714994\n",
}


def archive(path: Path, files: dict[str, str], folder: str = "ml", encoding: str = "latin-1") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name, text in files.items():
            target.writestr(f"{folder}/{name}", text.encode(encoding))
    return path


def on_disk(folder: Path, files: dict[str, str], encoding: str = "latin-1") -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text.encode(encoding))
    return folder


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_100k_is_read_as_grouplens_writes_it(tmp_path: Path, kind: str) -> None:
    source = archive(tmp_path / "s.zip", ML_100K) if kind == "zip" else on_disk(tmp_path / "s", ML_100K)
    out = import_movielens(source, tmp_path / "out").folder
    items = Catalog.open(out).items
    assert items["item_id"].to_list() == [1, 2, 3, 9]
    assert items["title"].to_list()[1] == "Cité des enfants perdus, La (1995)"
    assert items["year"].to_list() == [1995, 1995, None, 1999]
    assert items["genres"].to_list() == [["Animation", "Comedy"], ["Drama"], ["unknown"], []]
    ratings = pl.read_parquet(out / "ratings.parquet")
    assert ratings.rows() == [tuple(map(float, line.split("\t"))) for line in U_DATA]
    assert ratings.schema == {"user_id": pl.Int64, "item_id": pl.Int64, "rating": pl.Float32, "timestamp": pl.Int64}
    assert pl.read_parquet(out / "users.parquet").rows() == [
        (1, 24, "M", "technician", "85711"),
        (2, 53, "F", "other", "E2C1A"),
    ]


def test_official_folds_become_row_numbers_of_the_ratings(tmp_path: Path) -> None:
    out = import_movielens(archive(tmp_path / "s.zip", ML_100K), tmp_path / "out").folder
    u1, ua = (pl.read_parquet(out / "splits" / f"{fold}.parquet") for fold in ("u1", "ua"))
    assert u1.rows() == [(0, "train"), (1, "test"), (2, "test"), (3, "train")]
    assert ua.rows() == [(0, "train"), (1, "train"), (2, "train"), (3, "test")]
    assert sorted(path.stem for path in (out / "splits").iterdir()) == ["u1", "ua"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"u1.test": U_DATA[1]}, "fold u1"),
        ({"u1.test": U_DATA[1] + U_DATA[0]}, "fold u1"),
        ({"u1.test": U_DATA[1] + "2\t3\t2\t878887116\n"}, "fold u1"),
        ({"u1.test": U_DATA[1] + U_DATA[2] + "9\t9\t5\t1\n"}, "fold u1"),
        ({"u1.test": None}, "u1.test; one is missing"),
        ({"u.item": "1|Toy Story (1995)|01-Jan-1995\n"}, "u.item, line 1: expected 24 fields"),
        ({"u.user": "1|old|M|technician|85711\n"}, "u.user, line 1: age 'old'"),
        ({"u.data": "1\t1\t5\t881250949\n1\t2\tfive\t1\n"}, "row 2 with a rating that is not a number"),
        ({"u.data": "1\t1\t6\t881250949\n"}, "row 1 with a rating outside 0.5 to 5"),
        ({"u.data": "1\t1\t5\t881250949\n1\n"}, "row 2 without an id in column item_id"),
        ({"u.data": "1\t1\t5\tyesterday\n"}, "row 1 with a timestamp"),
    ],
)
def test_a_release_that_is_not_as_grouplens_writes_it_is_refused(
    tmp_path: Path, changes: dict[str, str | None], says: str
) -> None:
    files = {name: text for name, text in (ML_100K | changes).items() if text is not None}
    with pytest.raises(BadInput, match=says):
        import_movielens(archive(tmp_path / "s.zip", files), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["s.zip"]


def test_1m_is_read_as_grouplens_writes_it(tmp_path: Path) -> None:
    out = import_movielens(archive(tmp_path / "s.zip", ML_1M), tmp_path / "out").folder
    items = Catalog.open(out).items
    assert items["title"].to_list() == [
        "Toy Story (1995)",
        "Misérables, Les (1995)",
        "Star::Trek: First Contact (1996)",
    ]
    assert items["year"].to_list() == [1995, 1995, 1996]
    assert items["genres"].to_list() == [["Animation", "Comedy"], ["Drama"], ["Sci-Fi"]]
    assert pl.read_parquet(out / "ratings.parquet").rows() == [
        (1, 1, 5.0, 978300760),
        (1, 3, 4.0, 978302109),
        (6, 1, 1.0, 978301968),
    ]
    assert pl.read_parquet(out / "users.parquet").rows()[1] == (6, 50, "M", "9", "55117-1234")
    assert not (out / "splits").exists()


def test_1m_ratings_may_be_parquet_and_its_files_prefixed(tmp_path: Path) -> None:
    folder = on_disk(tmp_path / "s", {"ml-1m-movies.dat": ML_1M["movies.dat"], "ml-1m-users.dat": ML_1M["users.dat"]})
    ratings = pl.DataFrame({"user_id": [1, 6], "movie_id": [3, 1], "rating": pl.Series([4, 1], dtype=pl.UInt8)})
    ratings.write_parquet(folder / "ratings-ml-1m.parquet")
    out = import_movielens(folder, tmp_path / "out").folder
    assert pl.read_parquet(out / "ratings.parquet").rows() == [(1, 3, 4.0), (6, 1, 1.0)]
    ratings.write_parquet(folder / "ratings-other.parquet")
    with pytest.raises(BadInput, match=r"expected one ratings\*.parquet"):
        import_movielens(folder, tmp_path / "out2")


def test_the_csv_generation_is_read_as_grouplens_writes_it(tmp_path: Path) -> None:
    out = import_movielens(archive(tmp_path / "s.zip", ML_CSV, encoding="utf-8"), tmp_path / "out").folder
    items = Catalog.open(out).items
    assert items["item_id"].to_list() == [1, 2, 300000, 4]
    assert items["title"].to_list()[1] == 'American "Pie", The (1999)'
    assert items["year"].to_list() == [1995, 1999, None, 2015]
    assert items["genres"].to_list() == [["Adventure", "Animation"], ["Comedy"], [], ["Drama"]]
    assert pl.read_parquet(out / "ratings.parquet")["rating"].to_list() == [4.0, 0.5, 3.5]


def test_ratings_keep_the_order_of_the_source(tmp_path: Path) -> None:
    rows = 300_000
    lines = "".join(f"{rows - row}::1::5::{row}\n" for row in range(rows))
    out = import_movielens(archive(tmp_path / "s.zip", ML_1M | {"ratings.dat": lines}), tmp_path / "out").folder
    ratings = pl.read_parquet(out / "ratings.parquet")
    assert ratings["timestamp"].to_list() == list(range(rows))
    assert ratings["user_id"].to_list() == list(range(rows, 0, -1))


def test_users_tags_and_the_genome_become_tags_of_films(tmp_path: Path) -> None:
    files = ML_CSV | {
        "tags.csv": 'userId,movieId,tag,timestamp\n1,1,Pixar,1\n2,1,"fun, ""really""",2\n3,1,pixar,3\n1,2,dark,4\n',
        "genome-tags.csv": "tagId,tag\n1,007\n2,toys\n",
        "genome-scores.csv": "movieId,tagId,relevance\n1,1,0.02\n1,2,0.95\n2,1,0.8\n",
    }
    table = plots(tmp_path / "plots.parquet", movie_id=[1, 4], plot=["a", "b"], director=["Ann Lee", "Bo Ek"])
    out = import_movielens(archive(tmp_path / "s.zip", files, encoding="utf-8"), tmp_path / "out", items=table).folder
    assert Catalog.open(out).items["tags"].to_list() == [
        ["director: Ann Lee", "tag: pixar", 'tag: fun, "really"', "genome: toys"],
        ["tag: dark", "genome: 007"],
        [],
        ["director: Bo Ek"],
    ]


def test_10m_has_half_stars_tags_and_no_users(tmp_path: Path) -> None:
    files = {
        "ratings.dat": "1::122::5::838985046\n1::185::3.5::838983525\n",
        "movies.dat": "122::Boomerang: Café (1992)::Comedy|Romance\n185::Net, The (1995)::(no genres listed)\n",
        "tags.dat": "15::122::excellent!::1215184630\n16::122::Excellent!::1188263867\n16::185::café::1188263867\n",
    }
    for encoding in ("utf-8", "latin-1"):
        source = archive(tmp_path / f"{encoding}.zip", files, encoding=encoding)
        out = import_movielens(source, tmp_path / f"out-{encoding}").folder
        items = Catalog.open(out).items
        assert items["title"].to_list() == ["Boomerang: Café (1992)", "Net, The (1995)"]
        assert items["genres"].to_list() == [["Comedy", "Romance"], []]
        assert items["tags"].to_list() == [["tag: excellent!"], ["tag: café"]]
        assert pl.read_parquet(out / "ratings.parquet")["rating"].to_list() == [5.0, 3.5]


def plots(path: Path, **columns: list[object]) -> Path:
    pl.DataFrame(columns).write_parquet(path)
    return path


def test_plots_and_posters_join_by_film_id_and_no_film_is_lost_or_added(tmp_path: Path) -> None:
    table = plots(
        tmp_path / "plots.parquet",
        movie_id=[9, 1, 77],
        title=["other title", "x", "y"],
        year=[1900, 1901, 1902],
        plot=["A hacker wakes.", "  ", "z"],
        poster=["p/9.jpg", "p/1.jpg", None],
        director=["Lana Wachowski, Lilly Wachowski", None, "z"],
    )
    (tmp_path / "pictures").mkdir()
    report = import_movielens(
        archive(tmp_path / "s.zip", ML_100K), tmp_path / "out", items=table, posters=tmp_path / "pictures"
    )
    items = Catalog.open(report.folder).items
    assert items["item_id"].to_list() == [1, 2, 3, 9]
    assert items["text"].to_list() == [None, None, None, "A hacker wakes."]
    assert items["poster"].to_list() == ["p/1.jpg", None, None, "p/9.jpg"]
    assert items["tags"].to_list() == [[], [], [], ["director: Lana Wachowski", "director: Lilly Wachowski"]]
    assert items["title"].to_list()[3] == "Matrix, The"
    assert items["year"].to_list()[3] == 1999
    assert any("1 films of plots.parquet are not in s (77)" in warning for warning in report.warnings)
    assert any("2 films of s are not in plots.parquet" in warning for warning in report.warnings)
    description = json.loads((report.folder / "dataset.json").read_text())
    assert description["posters"] == "../pictures"
    assert [source["name"] for source in description["sources"]] == ["plots.parquet", "s.zip"]
    assert all(len(source["sha256"]) == 64 for source in description["sources"])


def test_tags_without_a_table_to_take_them_from_are_refused(tmp_path: Path) -> None:
    source = archive(tmp_path / "s.zip", ML_100K)
    with pytest.raises(UsageError, match="--tags director: needs --items"):
        import_movielens(source, tmp_path / "out", choices=Choices(tags=("director",)))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("column", "keys", "joined"),
    [
        ("imdb_id", ["tt0114709", "tt0105954"], ["a", None, "b", None]),
        ("tmdb_id", [862, 8844], ["a", "b", None, None]),
    ],
)
def test_plots_join_through_links_where_they_have_no_film_id(
    tmp_path: Path, column: str, keys: list[object], joined: list[object]
) -> None:
    table = plots(tmp_path / "plots.parquet", **{column: keys, "plot": ["a", "b"]})
    source = archive(tmp_path / "s.zip", ML_CSV, encoding="utf-8")
    assert (
        Catalog.open(import_movielens(source, tmp_path / "out", items=table).folder).items["text"].to_list() == joined
    )


def test_plots_that_cannot_be_joined_are_refused_naming_their_columns(tmp_path: Path) -> None:
    table = plots(tmp_path / "plots.parquet", imdb_id=["tt1"], plot=["a"])
    with pytest.raises(UsageError, match="imdb_id, plot"):
        import_movielens(archive(tmp_path / "s.zip", ML_100K), tmp_path / "out", items=table)


def test_posters_are_found_by_film_id_when_no_table_names_them(tmp_path: Path) -> None:
    folder = tmp_path / "posters"
    folder.mkdir()
    for name in ("1.jpg", "1.png", "9.webp", "2.txt"):
        (folder / name).write_bytes(b"")
    out = import_movielens(archive(tmp_path / "s.zip", ML_100K), tmp_path / "out", posters=folder).folder
    assert Catalog.open(out).posters() == ["1.jpg", None, None, "9.webp"]


def test_copied_posters_make_the_dataset_stand_alone_and_never_leave_the_poster_folder(tmp_path: Path) -> None:
    (tmp_path / "posters").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "posters" / "1.png")
    (tmp_path / "secret.png").write_text("secret")
    (tmp_path / "posters" / "leak.png").symlink_to(tmp_path / "secret.png")
    table = plots(
        tmp_path / "plots.parquet",
        movie_id=[1, 2, 3, 9],
        poster=["1.png", "../secret.png", "leak.png", str(tmp_path / "posters" / "1.png")],
    )
    report = import_movielens(
        archive(tmp_path / "s.zip", ML_100K),
        tmp_path / "out",
        items=table,
        posters=tmp_path / "posters",
        choices=Choices(copy_posters=True),
    )
    files = [path.relative_to(report.folder) for path in report.folder.rglob("*.png")]
    assert files == [Path("posters/1.png")]
    assert any("2 of 4 posters are not files inside" in warning for warning in report.warnings)
    counted = dataset_info(report.folder)["posters"]
    assert (counted["given"], counted["present"]) == (4, 2)  # the absolute path is that of the first
    assert not any(b"secret" in path.read_bytes() for path in report.folder.rglob("*.png"))


def test_a_table_none_of_whose_films_is_of_the_release_is_refused(tmp_path: Path) -> None:
    table = plots(tmp_path / "plots.parquet", movie_id=[71, 72, 73])
    with pytest.raises(BadInput, match=r"none of the 3 films of plots.parquet \('71' first\) is one of s by item_id"):
        import_movielens(archive(tmp_path / "s.zip", ML_100K), tmp_path / "out", items=table)


def test_posters_that_lead_nowhere_are_told_at_import(tmp_path: Path) -> None:
    (tmp_path / "posters").mkdir()
    (tmp_path / "wrong").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "posters" / "1.png")
    absolute = str(tmp_path / "posters" / "1.png")
    table = plots(tmp_path / "plots.parquet", movie_id=[1, 2, 3, 9], poster=["1.png", None, "3.png", absolute])
    for folder, missing in (("posters", 1), ("wrong", 3)):
        source = archive(tmp_path / "s.zip", ML_100K)
        report = import_movielens(source, tmp_path / f"out-{folder}", items=table, posters=tmp_path / folder)
        expected = f"{missing} of 3 posters are not files inside {tmp_path / folder}; --posters names the folder"
        assert any(warning.startswith(expected) for warning in report.warnings)
        counted = dataset_info(report.folder)["posters"]
        assert (counted["given"], counted["missing"]) == (3, missing)


def test_paths_that_start_with_posters_are_not_nested_when_copied(tmp_path: Path) -> None:
    (tmp_path / "posters").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "posters" / "1.png")
    table = plots(tmp_path / "plots.parquet", movie_id=[1], poster=["posters/1.png"])
    source = archive(tmp_path / "s.zip", ML_100K)
    out = import_movielens(source, tmp_path / "out", items=table, choices=Choices(copy_posters=True)).folder
    assert (out / "posters" / "1.png").is_file()
    assert Catalog.open(out).poster_root == out


def test_names_in_an_archive_never_become_paths(tmp_path: Path) -> None:
    source = tmp_path / "s.zip"
    with zipfile.ZipFile(source, "w") as target:
        for name, text in ML_100K.items():
            target.writestr(f"../../evil/{name}", text.encode("latin-1"))
        target.writestr("/tmp/cinefuse-zip-slip", "x")
        target.writestr("__MACOSX/ml/u.data", "rubbish")
        target.writestr("__MACOSX/ml/u.item", "rubbish")
    out = tmp_path / "a" / "b" / "out"
    import_movielens(source, out)
    assert not Path("/tmp/cinefuse-zip-slip").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "s.zip"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


def test_a_torn_or_foreign_archive_is_refused(tmp_path: Path) -> None:
    whole = archive(tmp_path / "s.zip", ML_100K)
    raw = bytearray(whole.read_bytes())
    (tmp_path / "torn.zip").write_bytes(raw[: len(raw) // 2])
    at = raw.find(b"u.data") + 12
    raw[at : at + 8] = bytes(8)
    (tmp_path / "flipped.zip").write_bytes(raw)
    archive(tmp_path / "other.zip", {"a.txt": "x"})
    with zipfile.ZipFile(tmp_path / "two.zip", "w") as target:
        for folder in ("a", "b"):
            for name, text in ML_1M.items():
                target.writestr(f"{folder}/{name}", text)
    for name, says in [
        ("torn", "not a whole zip"),
        ("flipped", r"u\.data"),
        ("other", "no MovieLens release"),
        ("two", "2 MovieLens releases"),
        ("absent", "no such file"),
    ]:
        with pytest.raises(BadInput, match=says):
            import_movielens(tmp_path / f"{name}.zip", tmp_path / "out")


def test_ratings_of_films_without_a_row_and_repeated_pairs_are_kept_and_told(tmp_path: Path) -> None:
    files = ML_1M | {"ratings.dat": "1::1::5::9\n1::1::4::9\n1::99::4::9\n2::99::4::9\n"}
    report = import_movielens(archive(tmp_path / "s.zip", files), tmp_path / "out")
    assert any("1 ratings repeat a user and film" in warning for warning in report.warnings)
    assert any("2 ratings name 1 films that the items lack" in warning for warning in report.warnings)
    counted = dataset_info(report.folder)["ratings"]
    assert (counted["ratings"], counted["repeated_pairs"], counted["unknown_item_ratings"]) == (4, 1, 2)


def test_the_command_line_imports_and_counts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cinefuse.cli", "data", "import", "movielens"]
    command += [str(archive(tmp_path / "s.zip", ML_100K)), str(tmp_path / "out")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "4 items" in done.stdout
    again = subprocess.run(command, check=False, capture_output=True, text=True)
    assert again.returncode == 3
    assert again.stderr.count("\n") == 1
    assert subprocess.run([*command, "--overwrite"], check=False, capture_output=True).returncode == 0


real_data = pytest.mark.skipif(not (SHARED / "ml-100k.zip").exists(), reason="needs the shared MovieLens data")


@pytest.mark.real_data
@real_data
def test_the_real_100k_comes_whole(tmp_path: Path) -> None:
    report = import_movielens(
        SHARED / "ml-100k.zip", tmp_path / "out", items=SHARED / "items-ml-100k.parquet", posters=SHARED
    )
    assert report.warnings == []
    info = dataset_info(report.folder)
    assert (info["items"], info["texts"]["given"], info["posters"]["given"]) == (1682, 1672, 1669)
    assert info["posters"]["present"] == 1669
    assert (info["ratings"]["ratings"], info["ratings"]["users"]) == (100_000, 943)
    assert info["ratings"]["mean"] == pytest.approx(3.52986)
    ratings = pl.read_parquet(report.folder / "ratings.parquet")
    with zipfile.ZipFile(SHARED / "ml-100k.zip") as source:
        for fold in ("u1", "u2", "u3", "u4", "u5", "ua", "ub"):
            split = pl.read_parquet(report.folder / "splits" / f"{fold}.parquet")
            assert split["row"].to_list() == list(range(100_000))
            for part, suffix in (("train", "base"), ("test", "test")):
                rows = ratings[split.filter(pl.col("part") == part)["row"].to_list()]
                lines = source.read(f"ml-100k/{fold}.{suffix}").decode().splitlines()
                assert sorted(tuple(map(float, line.split("\t"))) for line in lines) == sorted(rows.rows())


@pytest.mark.real_data
@real_data
def test_the_real_1m_comes_whole(tmp_path: Path) -> None:
    report = import_movielens(SHARED, tmp_path / "out", items=SHARED / "items-ml-1m.parquet", posters=SHARED)
    assert all("count as missing" in warning for warning in report.warnings)
    info = dataset_info(report.folder)
    assert (info["items"], info["texts"]["given"], info["posters"]["present"]) == (3883, 3860, 3875)
    assert (info["ratings"]["ratings"], info["users"]) == (1_000_209, 6040)
    assert info["ratings"]["mean"] == pytest.approx(3.581564, abs=1e-6)
    source = pl.read_parquet(SHARED / "ratings-ml-1m.parquet")
    ours = pl.read_parquet(report.folder / "ratings.parquet")
    assert ours["item_id"].to_list() == source["movie_id"].to_list()
    assert ours["rating"].to_list() == source["rating"].to_list()
