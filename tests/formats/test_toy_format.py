"""A file dropped into ``formats/`` is an export format, one in ``runners/`` executes it; nothing else knows of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from PIL import Image
from small_models import registered, small_model

from edgesam_export import formats, runners
from edgesam_export.artifacts import config_of, list_files, open_artifact
from edgesam_export.errors import UsageError
from edgesam_export.formats import FORMATS, find_format, format_names
from edgesam_export.modeling.sam import SamModel
from edgesam_export.parity import check_parity
from edgesam_export.predict.segment import choose_files
from edgesam_export.runners import RUNNERS, open_runner
from edgesam_export.spec import Artifact

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.(save|load)` is deprecated:DeprecationWarning")
FORMAT = dedent('''
    """A format for tests: TorchScript and the contract in a ``.npz`` archive."""

    import io, json
    from dataclasses import dataclass
    from pathlib import Path

    import numpy as np
    import torch

    from edgesam_export.errors import UsageError
    from edgesam_export.export.contract import CONTRACT_KEY
    from edgesam_export.export.trace import trace_each
    from edgesam_export.files import staging_folder
    from edgesam_export.formats import FORMATS, Format, component_path, make_artifacts, without_module
    from edgesam_export.spec import ExportConfig

    @dataclass(frozen=True, kw_only=True)
    class ToyConfig(ExportConfig):
        precision: str = "fp32"
        colour: str = "red"

    def export(model, out_dir, config=None, *, progress=None):
        config, done = config or ToyConfig(), []
        with staging_folder(Path(out_dir)) as staging:
            for component in trace_each(model, config, format="toy"):
                file = io.BytesIO()
                torch.jit.save(component.module, file)
                parts = {"module": np.frombuffer(file.getvalue(), np.uint8), "contract": json.dumps(component.contract)}
                with component_path(staging, component, ".toy").open("wb") as target:
                    np.savez(target, **parts)
                done.append(without_module(component))
        return make_artifacts(Path(out_dir), done, format="toy", suffix=".toy", modules={})

    def read_metadata(path):
        try:
            with np.load(path) as file:
                return {CONTRACT_KEY: str(file["contract"])}
        except ValueError as error:
            raise UsageError(f"'{path}' is no toy") from error

    FORMATS.register("toy")(
        Format(name="toy", suffix=".toy", config=ToyConfig, export=export, read_metadata=read_metadata)
    )
''')
RUNNER = dedent('''
    """Executes ``.toy`` files with TorchScript."""

    import io

    import numpy as np
    import torch

    from edgesam_export.runners import RUNNERS, ArtifactRunner

    @RUNNERS.register("toy_script")
    class ToyRunner(ArtifactRunner):
        formats = ("toy",)
        name = "toy"

        def __init__(self, artifacts):
            super().__init__(artifacts)
            self.modules = {}
            for artifact in artifacts:
                with np.load(artifact.path) as file:
                    self.modules[artifact.component] = torch.jit.load(io.BytesIO(file["module"].tobytes()))

        @classmethod
        def open(cls, artifacts, *, numerics, device):
            return cls(artifacts)

        @torch.inference_mode()
        def run(self, component, feed):
            contract = self.contract_of(component)
            outputs = self.modules[component](*(torch.from_numpy(feed[spec["name"]]) for spec in contract["inputs"]))
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
            return {spec["name"]: value.numpy() for spec, value in zip(contract["outputs"], outputs)}
''')


@pytest.fixture(scope="module", autouse=True)
def toy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Both files in one more folder of their rooms; every trace of them is gone afterwards."""
    folder = tmp_path_factory.mktemp("dropped")
    dropped = ((formats, "toy", FORMAT, FORMATS), (runners, "toy_script", RUNNER, RUNNERS))
    for package, name, text, _ in dropped:
        (folder / package.__name__).mkdir()
        (folder / package.__name__ / f"{name}.py").write_text(text, encoding="utf-8")
        package.__path__.append(str(folder / package.__name__))
    yield
    for package, name, _, registry in dropped:
        package.__path__.remove(str(folder / package.__name__))
        registry.entries.pop(name, None)
        sys.modules.pop(f"{package.__name__}.{name}", None)
        package.__dict__.pop(name, None)


@pytest.fixture(scope="module")
def small() -> SamModel:
    return small_model()


@pytest.fixture(scope="module")
def files(small: SamModel, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    return find_format("toy").export(small, tmp_path_factory.mktemp("exported"))


@pytest.fixture
def images(photo: Path, tmp_path: Path) -> list[Path]:
    turned = tmp_path / "turned.png"
    with Image.open(photo) as image:
        image.transpose(Image.Transpose.ROTATE_90).save(turned)
    return [photo, turned]


def test_it_is_listed_and_its_files_are_recorded(files):
    assert "toy" in format_names() and {file.format for file in files} == {"toy"}
    folder = files[0].path.parent
    record = json.loads((folder / "export.json").read_text())["artifacts"]
    assert set(record) == {path.name for path in folder.iterdir()} - {"export.json"}
    assert {file.path.suffix for file in files} == {".toy"}


def test_its_files_are_found_and_opened(files):
    folder = files[0].path.parent
    assert {file.name for file in list_files(folder)} == {file.path.name for file in files}
    opened = open_artifact(files[0].path)
    assert (opened.format, opened.component, opened.sha256) == ("toy", "encoder", files[0].sha256)
    assert config_of(opened).colour == "red"


def test_a_missing_file_names_every_suffix(tmp_path):
    with pytest.raises(UsageError, match=r"give an existing \.aimodel or \.mlpackage or \.onnx or \.toy"):
        open_artifact(tmp_path / "none.toy")
    with pytest.raises(UsageError, match=r"holds no \.aimodel and no \.mlpackage and no \.onnx and no \.toy"):
        list_files(tmp_path)


def test_the_prompt_keeps_full_precision_as_in_every_format(small):
    from edgesam_export.export.trace import build_components, fp32_modules

    (_, decoder), _ = build_components(small, find_format("toy").config(), format="toy")
    assert "prompt" in fp32_modules(decoder.module, "toy")


def test_parity_passes(small, files, images):
    report = check_parity(small, files, images=images)
    assert report.passed and {row.candidate for row in report.rows} == {"toy"}
    assert {(digest.file, digest.format) for digest in report.artifacts} == {(f.path.name, "toy") for f in files}


def test_commands_take_its_files(command, files, images, tmp_path):
    folder = files[0].path.parent
    words = ("--image", images[0], "--image", images[1], "--output", tmp_path)
    with registered():
        code, out, err = command("parity", folder, *words, "--json", "--quiet")
    assert code == 0 and json.loads(Path(json.loads(out)["reports"]["json"]).read_text())["passed"], err
    words = (images[0], "--point", "150,125", "--artifact", folder, "--output", tmp_path, "--json")
    code, out, _ = command("segment", *words)
    assert code == 0 and json.loads(out)["runner"] == "toy"
    code, _, err = command("analyze", files[0].path, "--output", tmp_path)
    assert code == 2 and files[0].path.name in err and "Traceback" not in err


def test_a_backend_is_chosen_by_the_formats_name(files):
    folder = files[0].path.parent
    assert {path.suffix for path in choose_files((folder,), "toy")} == {".toy"}
    with pytest.raises(UsageError, match="no onnx files among"):
        choose_files((folder,), "onnx")


def test_the_runner_keeps_the_names_of_the_contract(files):
    runner = open_runner(files)
    assert runner.embedding_names == ("image_embeddings",) and runner.info.embedding_shapes == ((1, 32, 64, 64),)
