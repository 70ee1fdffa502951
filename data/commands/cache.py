"""The `cinefuse cache` commands: embedding files are looked at and checked.

Slow imports stand inside the commands, so that ``cinefuse --help`` appears at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..runtime.errors import DamagedFile
from .cache_formats import cache_convert, cache_import
from .options import JsonOption

app = typer.Typer(no_args_is_help=True, help="Look at embedding files, check, cut, merge, convert and share them.")


@app.command("info")
def cache_info(
    file: Annotated[Path, typer.Argument(help="embedding file, finished or not")],
    failures: Annotated[
        bool, typer.Option("--failures", help="list items whose text or image could not be embedded, and why")
    ] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="these, and items that have none in the catalogue")
    ] = False,
    truncated: Annotated[bool, typer.Option("--truncated", help="these, and texts that were cut")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say what an embedding file is: models, settings, coverage, sizes, digest; how far it is while it is written."""
    from ..embeddings.file import EmbeddingFile
    from ..embeddings.summary import absences, overview
    from ..embeddings.summary import failures as found
    from ..runtime.lock import writer_of
    from .cache_screen import show_failures, show_overview, show_progress

    failures = failures or missing or truncated
    with EmbeddingFile.open(file, pending=True) as opened:
        if failures and as_json:
            rows = [
                {"item": f.item, "modality": f.modality, "status": f.status.name.lower(), "why": f.reason.sentence}
                for f in found(opened, missing=missing, truncated=truncated)
            ]
            typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        elif failures:
            show_failures(found(opened, missing=missing, truncated=truncated), {} if missing else absences(opened))
        elif as_json:
            typer.echo(json.dumps(overview(opened) | {"writer": writer_of(file)}, indent=1, ensure_ascii=False))
        else:
            writer = writer_of(file)
            show_overview(overview(opened), writer)
            show_progress(opened, writer)


@app.command("verify")
def cache_verify(
    file: Annotated[Path, typer.Argument(help="embedding file")],
    as_json: JsonOption = False,
) -> None:
    """Read every byte of an embedding file once and check all that the format promises.

    The HDF5 library opens it too, in a process of its own, and must see what the header says. Names each damaged row;
    `cinefuse extract` then computes exactly those again. Exit code 4 where anything is wrong.
    """
    from ..formats.hdf5_library import verify_by_hdf5_too
    from .cache_screen import show_report, verify_bar

    with verify_bar(file) as progress:
        report = verify_by_hdf5_too(file, progress)
    if as_json:
        problems = [{"where": p.where, "row": p.row, "item": p.item, "what": p.what} for p in report.problems]
        found = {"path": str(file), "sound": report.sound, "complete": report.complete, "pending": report.pending}
        typer.echo(json.dumps(found | {"problems": problems}, indent=1))
    else:
        show_report(report)
    if not report.complete:
        raise DamagedFile(f"{file}: {len(report.problems):,} problems, {sum(report.pending.values()):,} rows pending")


@app.command("subset")
def cache_subset(
    file: Annotated[Path, typer.Argument(help="embedding file, finished or not")],
    out: Annotated[Path, typer.Argument(metavar="OUT.h5", help="where the smaller file goes")],
    ids: Annotated[str | None, typer.Option(help="ids wanted, with commas between, in the order wanted")] = None,
    items: Annotated[Path | None, typer.Option(help="text file with the ids wanted, one a line")] = None,
    modality: Annotated[list[str] | None, typer.Option(help="text or image [default: all]")] = None,
    level: Annotated[str, typer.Option(help="tokens, or cls to leave the tokens behind")] = "tokens",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace OUT.h5")] = False,
) -> None:
    """Cut a smaller file out of a large one: some items, in any order, some modalities, the CLS alone."""
    from ..sharing.selection import selection_from_options
    from ..sharing.subset import subset
    from .cache_screen import bytes_bar, show_made

    selection = selection_from_options(ids, items, modality or [], level)
    with bytes_bar("copying", None) as progress:
        subset(file, out, selection, overwrite=overwrite, progress=progress)
    show_made(out)


@app.command("merge")
def cache_merge(
    files: Annotated[list[Path], typer.Argument(metavar="FILE... OUT.h5", help="files to merge, then where to")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace OUT.h5")] = False,
) -> None:
    """Make one file of several: parts of a job, slices of a catalogue, text and posters of the same films.

    Rows in several files must be the same; a pending row gives way to a written one, and stays pending without one.
    """
    from ..sharing.merge import merge
    from .cache_screen import bytes_bar, show_made

    *sources, out = files
    with bytes_bar("copying", None) as progress:
        merge(sources, out, overwrite=overwrite, progress=progress)
    show_made(out)


app.command("convert")(cache_convert)


@app.command("diff")
def cache_diff(
    first: Annotated[Path, typer.Argument(help="embedding file")],
    second: Annotated[Path, typer.Argument(help="another one")],
    most: Annotated[int, typer.Option(min=1, help="rows to show")] = 20,
    strict: Annotated[bool, typer.Option("--strict", help="exit code 5 where they differ")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which rows of two files differ and by how much, and which items are in one alone."""
    from ..runtime.errors import FingerprintMismatch
    from ..sharing.diff import diff
    from .cache_screen import show_difference

    found = diff(first, second)
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        show_difference(found, most)
    if strict and not found.equal:
        raise FingerprintMismatch(f"{first} and {second} differ")


app.command("import")(cache_import)


@app.command("card")
def cache_card(
    file: Annotated[Path, typer.Argument(help="embedding file, finished")],
    out: Annotated[Path, typer.Option(help="where the card goes")] = Path("README.md"),
    name: Annotated[str | None, typer.Option(help="what the data is called [default: the file's name]")] = None,
    repo: Annotated[str | None, typer.Option(help="OWNER/NAME on the Hub, for the lines that load it")] = None,
    licence: Annotated[str | None, typer.Option(help="SPDX name, such as cc-by-4.0 [default: the header's]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the card")] = False,
) -> None:
    """Write the data card that goes beside a shared file: what it is, coverage, how to load it, licence, digest."""
    from ..runtime.untrusted_text import printable
    from ..sharing.data_card import write_card

    write_card(file, out, name=name, repo=repo, licence=licence, overwrite=overwrite)
    typer.echo(printable(out))


@app.command("browse")
def cache_browse(
    file: Annotated[Path, typer.Argument(help="embedding file, finished or not")],
    dataset: Annotated[Path | None, typer.Option(help="its dataset folder: titles, plots, genres, posters")] = None,
    out: Annotated[Path | None, typer.Option(help="where the page goes [default: FILE.html]")] = None,
    limit: Annotated[
        int, typer.Option(help="most films on the page; of more, drawn at random, embedded ones first")
    ] = 5_000,
    vector: Annotated[
        str | None, typer.Option(help="what stands for a film: cls, or mean (of its tokens) [default: mean]")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
) -> None:
    """Make one HTML page to walk an embedding file: a map of posters, nearest neighbours, search.

    The page holds everything it shows and needs no network.
    """
    from ..embeddings.file import EmbeddingFile
    from ..pages.browse import browse_page, vector_kind
    from ..pages.page import write_page
    from ..runtime.progress import TerminalProgress
    from ..runtime.terminal import size
    from ..runtime.untrusted_text import printable

    page = out or file.with_suffix(".html")
    with EmbeddingFile.open(file, pending=True) as opened:
        write_page(
            page, browse_page(opened, dataset, limit=limit, vector=vector_kind(vector), progress=TerminalProgress())
        )
    typer.echo(f"{printable(page)}: {size(page.stat().st_size)}")
    if open_it:
        typer.launch(str(page.resolve()))


@app.command("push")
def cache_push(
    file: Annotated[Path, typer.Argument(help="embedding file, finished")],
    destination: Annotated[
        str,
        typer.Argument(metavar="DEST", help="s3://, gs://, hf://datasets/OWNER/NAME (or OWNER/NAME), a folder"),
    ],
    card: Annotated[Path | None, typer.Option(help="a data card in Markdown to put beside it")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace another file that is there")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="share a file although rows are pending")] = False,
    public: Annotated[bool, typer.Option("--public", help="make a new Hub repository public, not private")] = False,
) -> None:
    """Put an embedding file where others can pull it: checked before it leaves, proven once it is there.

    Beside it goes FILE.sha256. Credentials are those of each store's own programs; none is ever shown or written.
    """
    from ..sharing.push import push
    from .transfer_screen import pushed_line, transfer_bar

    with transfer_bar("pushing") as progress:
        pushed = push(
            file, destination, card=card, overwrite=overwrite, partial=partial, public=public, progress=progress
        )
    typer.echo(pushed_line(pushed))


@app.command("pull")
def cache_pull(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help="hf://datasets/OWNER/NAME[@REV]/FILE.h5, http(s)://, s3://, gs://, a path"),
    ],
    out: Annotated[Path, typer.Argument(metavar="OUT.h5", help="where the file goes")],
    only: Annotated[
        list[str] | None, typer.Option(help="text, image, text/cls, image/cls or cls; may be given twice")
    ] = None,
    items: Annotated[Path | None, typer.Option(help="text file with the ids wanted, one a line")] = None,
    sha256: Annotated[str | None, typer.Option(help="what the whole file's SHA-256 must be")] = None,
    digest: Annotated[str | None, typer.Option(help="what the content digest must be")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="of a server without ranges, download all for a part")] = False,
    partial: Annotated[bool, typer.Option("--partial", help="accept rows that are pending")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace OUT.h5")] = False,
) -> None:
    """Bring an embedding file, or just a part of it, from elsewhere; it gets its name only once it is proven.

    With --only or --items just those byte ranges cross the network. Killed or torn, the same command continues.
    """
    from ..sharing.pull import Expected, pull
    from ..sharing.selection import ids_of, selection_from_only
    from .transfer_screen import pulled_line, transfer_bar

    selection = selection_from_only(only or [], None if items is None else ids_of(items))
    with transfer_bar("pulling") as progress:
        pulled = pull(
            source,
            out,
            selection,
            expected=Expected(sha256, digest),
            whole=whole,
            partial=partial,
            overwrite=overwrite,
            progress=progress,
        )
    typer.echo(pulled_line(pulled))
