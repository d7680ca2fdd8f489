"""What the README and the documents claim, against the code; their examples are run in tests/clients."""

import json
import re
from collections import Counter

import pytest

from gateway.endpoints import ENDPOINTS
from gateway.errors import ValidationErrors
from gateway.settings import GatewaySettings
from gateway.weights.settings import WeightsSettings
from pipelines.settings import DrawingSettings
from tests.pages import ROOT, blocks, languages, page, section

PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")
CARDS = ("models/pocket/README.md", "training/pocket/README.md")


def test_every_block_of_code_is_one_that_a_test_runs() -> None:
    assert Counter(languages(page("README.md"))) == {"sh": 2, "bash": 2, "python": 1, "js": 2}
    run, by_hand = page("docs/clients.md").split("\n## Other clients\n")
    assert Counter(languages(run)) == {"sh": 1, "bash": 1, "python": 2, "js": 6}
    assert "no test holds" in by_hand
    assert "\n## " not in by_hand
    fronts = page("docs/other-front-ends.md")
    assert languages(fronts).count("python") == 2  # run in tests/gateway/openai and tests/gateway/mcp
    assert "no test holds them" in fronts
    held = {ROOT / "docs" / name for name in ("clients.md", "operations.md", "other-front-ends.md")}
    for path in {*(ROOT / "docs").rglob("*.md")} - held:
        shown = languages(path.read_text(encoding="utf-8"))
        assert not [language for language in shown if language not in ("json", "text")], path


def test_the_commands_are_targets_of_the_makefile() -> None:
    commands, real = blocks(page("README.md"), "sh")
    targets = re.findall(r"^make (\w+)", commands, re.MULTILINE)
    assert targets == ["serve", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", page("Makefile"), re.MULTILINE)
    (variables,) = re.findall(r"^make serve ([^#]+)", real, re.MULTILINE)
    for variable in variables.split():  # what they do: tests/deployments/test_serve_local.py
        assert re.search(rf"^{variable.partition('=')[0]} \?=", page("Makefile"), re.MULTILINE)


def test_every_link_leads_to_a_file() -> None:
    for name in (*PAGES, *CARDS, *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page(name)):
            assert target.startswith("https://") or ((ROOT / name).parent / target).is_file(), f"{name}: {target}"


def test_every_endpoint_is_in_the_tables() -> None:
    for endpoint in ENDPOINTS:
        assert f"| `{endpoint}` |" in page("README.md")
        assert f"| `{endpoint}` |" in page("docs/api.md")


def test_the_error_that_the_api_page_shows_is_the_services_own() -> None:
    with pytest.raises(ValidationErrors) as refused:
        ENDPOINTS["fal-ai/fast-fooocus-sdxl"].order({"prompt": "x", "num_inference_steps": 25}, "id", "http://host")
    shown, _ = blocks(page("docs/api.md"), "json")
    assert json.loads(shown) == refused.value.body()


def test_the_operations_page_names_every_setting() -> None:
    settings = section(page("docs/operations.md"), "Settings")
    for name in (*GatewaySettings.model_fields, *DrawingSettings.model_fields, *WeightsSettings.model_fields):
        assert f"`{name}`" in settings, name


def test_no_metric_is_made_beside_the_contract() -> None:
    """Whose table is in the operations page (tests/monitoring)."""
    makers = [
        path
        for path in ROOT.glob("deployments/*.py")
        if re.search(r"ray\.serve\.metrics|ray\.util\.metrics|import metrics", path.read_text())
    ]
    assert [path.name for path in makers] == ["monitoring.py"]
