"""Train the names network and put it beside the code that reads it.

    python -m simulations.ner [--data DIR] [--out DIR] [--texts 140000] [--epochs 3] [--seed 7]

With --data, sentences of the public sets of that folder join the templates as text that identifies nobody; the shipped file was made so.
"""

from pathlib import Path
from typing import Annotated

import typer

from common.console import print_json, run_command
from common.terminal import progress_on
from simulations.ner.train import train

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def ner(
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the public text sets.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where the weights go.")] = Path("client/deid"),
    texts: Annotated[int, typer.Option("--texts", min=100, help="How many texts are composed.")] = 140_000,
    epochs: Annotated[int, typer.Option("--epochs", min=1, help="How often each is read.")] = 3,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same file on the same machine.")] = 7,
) -> None:
    """Train the names network."""
    out.mkdir(parents=True, exist_ok=True)  # before the minutes of training, not after them
    with progress_on() as progress:
        print_json(dict(train(data, out, texts=texts, epochs=epochs, seed=seed, progress=progress)))


if __name__ == "__main__":
    run_command(app, "python -m simulations.ner")
