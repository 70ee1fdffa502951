"""The `cinefuse extract` command.

Slow imports stand inside the commands, so that ``cinefuse --help`` appears at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...data.commands.options import CompileOption, DatasetArgument, DeviceOption, ThreadsOption
from ...data.runtime.errors import UsageError

app = typer.Typer()


@app.command("extract")
def extract(
    dataset: DatasetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.h5", help="embedding file to make, continue or mend")],
    text_model: Annotated[
        str, typer.Option(help="hub id or folder of a text model, or mini (built in)", rich_help_panel="Models")
    ] = "google-bert/bert-base-uncased",
    image_model: Annotated[
        str, typer.Option(help="hub id or folder of an image model, or mini (built in)", rich_help_panel="Models")
    ] = "google/vit-base-patch16-224-in21k",
    no_text: Annotated[bool, typer.Option("--no-text", help="leave plots out", rich_help_panel="Models")] = False,
    no_image: Annotated[bool, typer.Option("--no-image", help="leave posters out", rich_help_panel="Models")] = False,
    text_revision: Annotated[
        str | None, typer.Option("--text-revision", help="commit, tag or branch", rich_help_panel="Models")
    ] = None,
    image_revision: Annotated[str | None, typer.Option(help="commit, tag or branch", rich_help_panel="Models")] = None,
    text_layer: Annotated[
        int | None, typer.Option(help="layer to keep, from 1, or from -1 backwards", rich_help_panel="Models")
    ] = None,
    image_layer: Annotated[int | None, typer.Option(help="the same for posters", rich_help_panel="Models")] = None,
    pooling: Annotated[
        str | None,
        typer.Option(
            help="how a plot becomes one vector: cls, mean, last, max, pooler, projection (as the model's files say)",
            rich_help_panel="Models",
        ),
    ] = None,
    image_pooling: Annotated[
        str | None,
        typer.Option(help="the same for posters: cls, mean, max, pooler, projection", rich_help_panel="Models"),
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help="put in front of every plot (the model's own prompt of documents)", rich_help_panel="Inputs"),
    ] = None,
    text_template: Annotated[
        str, typer.Option(help="text of an item from its columns, as '{title}. {text}'", rich_help_panel="Inputs")
    ] = "{text}",
    max_length: Annotated[
        int | None, typer.Option(help="tokens kept of a text (what the model reads)", rich_help_panel="Inputs")
    ] = None,
    max_megapixels: Annotated[
        float, typer.Option(help="posters of more pixels are marked as failed", rich_help_panel="Inputs")
    ] = 32.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="stop at the first input that cannot be used", rich_help_panel="Inputs")
    ] = False,
    level: Annotated[
        str,
        typer.Option(help="tokens: CLS and tokens; cls: CLS alone, a hundredth of the size", rich_help_panel="Numbers"),
    ] = "tokens",
    dtype: Annotated[
        str, typer.Option(help="float16, float32 or bfloat16 in the file", rich_help_panel="Numbers")
    ] = "float16",
    precision: Annotated[
        str, typer.Option(help="bf16, fp32, or auto: bf16 where it is native", rich_help_panel="Numbers")
    ] = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    compile_: CompileOption = False,
    batch_tokens: Annotated[
        int | None, typer.Option(help="tokens in a text batch, padding included", rich_help_panel="Speed")
    ] = None,
    batch_posters: Annotated[int | None, typer.Option(help="posters in a batch", rich_help_panel="Speed")] = None,
    decoders: Annotated[
        int | None,
        typer.Option(
            help="processes that decode posters; 0: threads (processes with a GPU or 8 cores, else threads)",
            rich_help_panel="Speed",
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local: this process; ray: workers on a Ray cluster", rich_help_panel="Many machines")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="of a Ray cluster (else $RAY_ADDRESS, else one on this machine)", rich_help_panel="Many machines"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Ray workers (one a GPU, else one a core)", rich_help_panel="Many machines"),
    ] = None,
    send_rows: Annotated[
        bool,
        typer.Option(
            "--send-rows",
            help="Ray workers send rows here rather than write them (they do where they do not see the file)",
            rich_help_panel="Many machines",
        ),
    ] = False,
    slice_: Annotated[
        str | None,
        typer.Option(
            "--slice", metavar="K/N", help="only this share, into a part file", rich_help_panel="Many machines"
        ),
    ] = None,
    log_json: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="also write events, one JSON object a line; - is standard output"),
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="show what would be done, and stop")] = False,
    reuse: Annotated[
        list[Path] | None, typer.Option(help="embedding file whose equal rows are copied; may be repeated")
    ] = None,
    restart: Annotated[bool, typer.Option("--restart", help="start over, replacing the file")] = False,
    source: Annotated[str | None, typer.Option(help="where plots and posters come from, for the header")] = None,
    licence: Annotated[str | None, typer.Option(help="terms of the file, for the header")] = None,
) -> None:
    """Run BERT and ViT once over all plots and posters and keep CLS and token embeddings in one file.

    Whatever stops it, run the same command again: it goes on where it stopped, and the file comes out the same.
    A finished file is checked, and exactly its damaged rows are computed again.
    """
    from ...data.dataset.catalog import Catalog
    from ...data.runtime.progress import TerminalProgress
    from ..inputs.poster_files import PosterLimits
    from ..job.settings import Settings, prepare
    from ..job.slices import Slice

    if engine not in ("local", "ray"):
        raise UsageError(f"--engine: expected local or ray, found {engine}")
    if engine != "ray" and (address is not None or workers is not None or send_rows):
        raise UsageError("--address, --workers and --send-rows: expected --engine ray with them")
    if engine == "ray" and threads is not None:
        raise UsageError("--threads and --engine ray: expected one of them; Ray's workers share the cores by --workers")
    if engine == "ray" and slice_ is not None:
        raise UsageError("--slice and --engine ray: expected one of them, found both")
    share = None if slice_ is None else Slice.parse(slice_)

    if not 0 < max_megapixels < float("inf"):
        raise UsageError(f"--max-megapixels: expected a number above 0, found {max_megapixels}")
    settings = Settings(
        text_model=None if no_text else text_model,
        image_model=None if no_image else image_model,
        text_revision=text_revision,
        image_revision=image_revision,
        text_layer=text_layer,
        image_layer=image_layer,
        text_pooling=pooling,
        image_pooling=image_pooling,
        prompt=prompt,
        template=text_template,
        max_length=max_length,
        level=level,
        dtype=dtype,
        precision=precision,
        device=device,
        compile=compile_,
        decoders=decoders,
        batch_tokens=batch_tokens,
        batch_posters=batch_posters,
        limits=PosterLimits(max_pixels=int(max_megapixels * 1e6)),
        reuse=tuple(reuse or ()),
        strict=strict,
        restart=restart,
        licence=licence,
        source=source,
    )
    if plan:
        from ..job.resume import without_needless_images
        from .screen import show_plan

        catalog, progress = Catalog.open(dataset), TerminalProgress()
        settings = without_needless_images(catalog, out, settings, progress)
        show_plan(prepare(catalog, settings, progress, weights=False), settings)
        return
    from ..cluster.connection import Cluster
    from ..job.scheduled import run_batch

    cluster = Cluster(address, workers, send_rows) if engine == "ray" else None
    if threads is not None:
        from ...device import use_threads

        use_threads(threads)
    run_batch(dataset, out, settings, share, cluster, log_json)
