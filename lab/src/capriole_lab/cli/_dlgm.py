"""Commands of the latent-variable models: ``dlgm ...`` and ``paper dlgm``."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ._paper import app as paper_app

dlgm_app = typer.Typer(
    name="dlgm", help="Latent-variable models trained with a learned sampler.", no_args_is_help=True
)

Preset = Annotated[
    str, typer.Option(help="smoke (seconds), laptop (an hour for everything) or paper (a GPU).")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random in the run.")]
Data = Annotated[
    Path | None, typer.Option("--data", help="Folder with the images' IDX files (.gz or not).")
]
Folder = Annotated[
    Path, typer.Argument(help="A model's folder, written by `capriole-lab dlgm train`.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the stage's JSON.")]


@dlgm_app.command()
def train(
    scheme: Annotated[str, typer.Option(help="elbo (VAE), hmc or l2hmc.")] = "l2hmc",
    preset: Preset = "laptop",
    seed: Seed = 0,
    dataset: Annotated[
        str | None, typer.Option(help="mnist, mnist-10k, fashion-mnist or digits.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Epochs to train in all.")] = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the model; an unfinished run there goes on.")
    ] = None,
) -> None:
    """Train one model; interrupted runs go on where they stopped."""

    def work(progress: Callable) -> str:
        from ..dlgm import load_dataset, settings_for, train_stage

        settings = settings_for(preset, dataset=dataset, epochs=epochs, elbo_epochs=epochs)
        place = out or Path("runs") / "dlgm" / f"{scheme}-{seed}"
        images = load_dataset(settings.dataset, data)
        loaded = train_stage(scheme, settings, images, seed=seed, folder=place, progress=progress)
        last = loaded.history[-1]
        done = f"{len(loaded.history)} epochs, ELBO {last['elbo']:.2f}, {last['seconds']:.0f} s"
        return f"{done}; everything is in {place}"

    _guarded(work, note="finished epochs are kept; run the same command to go on")


@dlgm_app.command()
def evaluate(folder: Folder, data: Data = None, as_json: AsJson = False) -> None:
    """Estimate log p(x) by AIS, with its error from the bidirectional sandwich."""

    def work(progress: Callable) -> str:
        from ..dlgm import evaluate_stage
        from ..dlgm.report._words import number, plus_minus

        found = evaluate_stage(*_model(folder, data), progress=progress)
        test, gap = found["test"], found["sandwich"]
        short = f"test log p(x) {plus_minus(test['log_likelihood'], test['se'])}"
        short += f" (AIS error {number(test['ais_error'])})"
        return _shown(
            found, as_json, f"{short}, sandwich gap {plus_minus(gap['gap'], gap['gap_se'])}"
        )

    _guarded(work)


@dlgm_app.command()
def inpaint(folder: Folder, data: Data = None, as_json: AsJson = False) -> None:
    """In-paint the top halves of test images by block Gibbs, and count the digits seen."""

    def work(progress: Callable) -> str:
        from ..dlgm import inpaint_stage

        found = inpaint_stage(*_model(folder, data), progress=progress)
        lines = [
            "z from {}: {mean:.2f} ± {se:.2f} distinct classes per image".format(
                name, **found[name]["distinct_classes"]
            )
            + _against_reference(found[name])
            for name in ("encoder", "sampler")
            if name in found
        ]
        return _shown(found, as_json, "\n".join(lines))

    _guarded(work)


def _against_reference(stored: dict[str, Any]) -> str:
    if "counts" not in stored:  # a file of an earlier version
        return ""
    reached, distance = (
        stored["counts"]["true"][name]["mean"] for name in ("reached", "total_variation")
    )
    return f", {reached:.2f} of them true; total variation from the reference {distance:.2f}"


@dlgm_app.command()
def posterior(
    folder: Folder,
    image: Annotated[int, typer.Option(min=0, help="Which test image to look at closely.")] = 0,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Sample posteriors of latents and measure how far from Gaussian they are."""

    def work(progress: Callable) -> str:
        from ..dlgm import posterior_stage

        found = posterior_stage(*_model(folder, data), image=image)
        many = found["many_images"]
        share = (
            f"{many['non_gaussian_share']:.0%} of {many['num_images']} images clearly not Gaussian"
        )
        return _shown(found, as_json, f"{share}; picture in {folder / 'posterior.png'}")

    _guarded(work)


@dlgm_app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="Folder whose subfolders hold models.")],
    data: Data = None,
) -> None:
    """Write report.html from all models in subfolders."""

    def work(progress: Callable) -> str:
        from ..dlgm import load_dataset, settings_in, write_report

        places = sorted(folder.glob("*/checkpoint.safetensors"))
        images = load_dataset(settings_in(places[0].parent).dataset, data) if places else None
        return f"report: {write_report(folder, images)}"

    _guarded(work)


@paper_app.command("dlgm")
def paper_dlgm(
    preset: Preset = "laptop",
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Seeds 0, 1, ... of every model.")
    ] = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run, runs/paper-dlgm-PRESET; an unfinished run there goes on."
        ),
    ] = None,
) -> None:
    """Section 5.2: VAE, HMC-DLGM and L2HMC-DLGM; likelihoods, in-painting, posteriors."""

    def work(progress: Callable) -> str:
        from ..dlgm import load_dataset, run_paper, settings_for

        settings = settings_for(preset, seeds=seeds)
        place = out or Path("runs") / f"paper-dlgm-{preset}"
        images = load_dataset(settings.dataset, data)
        return f"report: {run_paper(settings, images, place, progress=progress)}"

    _guarded(work, note="what was finished is kept; run the same command to go on")


def _model(folder: Path, data: Path | None) -> tuple[Any, Any]:
    from ..dlgm import load_dataset, load_model, settings_in

    images = load_dataset(settings_in(folder).dataset, data)
    return load_model(folder, images), images


def _shown(found: dict[str, Any], as_json: bool, short: str) -> str:
    return json.dumps(found, indent=2) if as_json else short


def _guarded(work: Callable[[Callable], str], note: str = "") -> None:
    """Run with progress and print the answer. Status 130 after Ctrl-C, 2 after bad input."""
    from capriole.cli import LiveProgress, fail

    try:
        with LiveProgress() as live:
            answer = work(live.update)
    except KeyboardInterrupt:
        typer.secho(f"stopped; {note}" if note else "stopped", fg="yellow", err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError) as error:
        fail(str(error))
    typer.echo(answer)
