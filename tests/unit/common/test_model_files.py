"""Files of models and adapters that somebody else made: refused by folder, and never unpickled."""

import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from common import bases
from common.adapters import Adapter
from common.bases import load_base
from common.config import AdapterConfig
from common.errors import ModelUnavailable

BROKEN: dict[str, Callable[[Path], object]] = {
    "no weights": lambda folder: (folder / "adapter_model.safetensors").unlink(),
    "weights of noise": lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"x" * 64),
    "no object": lambda folder: (folder / "wardround.json").write_text("[1]"),
    "no layers": lambda folder: (folder / "wardround.json").write_text('{"adapter": {}, "head": false, "layers": null}'),
    "an unknown key": lambda folder: (folder / "wardround.json").write_text('{"adapter": {"rnk": 2}, "head": false, "layers": [0]}'),
    "not UTF-8": lambda folder: (folder / "adapter_config.json").write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_adapter_is_refused_by_its_folder(tmp_path: Path, case: str) -> None:
    load_base("tiny", "float32").spec(AdapterConfig(rank=2)).initial().save(tmp_path)
    BROKEN[case](tmp_path)
    with pytest.raises(ModelUnavailable, match="not an adapter of Wardround"):
        Adapter.load(tmp_path)


class Runs:
    """Leaves a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
        return Path.touch, (self.mark,)


def test_a_base_model_in_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    folder, mark = tmp_path / "model", tmp_path / "it ran"
    base = load_base("tiny", "float32")
    base.lm.save_pretrained(folder)
    base.tokenizer.save_pretrained(folder)
    assert load_base(str(folder), "float32").digest == base.digest
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Runs(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable, match="safetensors"):
        load_base(str(folder), "float32")
    assert not mark.exists()
    pickle.loads(pickle.dumps(Runs(mark)))  # the twin: what reads pickles runs what is in them
    assert mark.exists()


def test_a_base_of_bfloat16_is_widened_where_the_machine_cannot_multiply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for can in (True, False):
        monkeypatch.setattr(bases, "multiplies_bfloat16", lambda can=can: can)
        found[can] = load_base("tiny", "bfloat16")
    assert (found[True].lm.dtype, found[False].lm.dtype) == (torch.bfloat16, torch.float32)
    assert found[True].digest == found[False].digest  # the same weights: a site with one kind of CPU may join one with the other
    stored, widened = (dict(found[can].lm.state_dict()) for can in (True, False))
    assert all(torch.equal(stored[name].float(), widened[name]) for name in stored)
    assert load_base("tiny", "float32").digest != found[False].digest
