"""What ``deploy/`` holds is well formed, runs what it says, and never as root; the SLURM script converts."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.batch import make_plan
from jobs.cli.group import commands
from jobs.convert import convert
from pcap2arrow.conversion.options import Options
from pcap2arrow.inputs import find_captures
from tests.commands import PROJECT, SAMPLE, live_files, run, write_capture

DEPLOY = PROJECT / "deploy"

MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))

_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_CONTAINER: dict[str, Any] = {
    "type": "object",
    "required": ["name", "image", "resources", "securityContext"],
    "additionalProperties": False,
    "properties": {
        "name": _NAME,
        "image": {"type": "string", "pattern": ":[^:]+$"},
        "command": _STRINGS,
        "args": _STRINGS,
        "ports": {"type": "array", "items": {"required": ["name", "containerPort"]}},
        "envFrom": {"type": "array", "items": {"required": ["secretRef"]}},
        "readinessProbe": {"type": "object"},
        "resources": {
            "required": ["requests", "limits"],
            "properties": {"limits": {"required": ["memory"]}, "requests": {"required": ["cpu", "memory"]}},
        },
        "securityContext": {
            "required": ["allowPrivilegeEscalation", "readOnlyRootFilesystem"],
            "properties": {"allowPrivilegeEscalation": {"const": False}},
        },
        "volumeMounts": {"type": "array", "items": {"required": ["name", "mountPath"]}},
    },
}
_POD = {
    "type": "object",
    "required": ["containers", "securityContext"],
    "additionalProperties": False,
    "properties": {
        "containers": {"type": "array", "minItems": 1, "items": _CONTAINER},
        "restartPolicy": {"enum": ["Never", "OnFailure", "Always"]},
        "securityContext": {
            "required": ["runAsNonRoot", "runAsUser"],
            "properties": {"runAsNonRoot": {"const": True}, "runAsUser": {"type": "integer", "minimum": 1}},
        },
        "volumes": {
            "type": "array",
            "items": {"type": "object", "required": ["name"], "minProperties": 2, "maxProperties": 2},
        },
    },
}


def _kind(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["apiVersion", "kind", "metadata", "spec"],
        "additionalProperties": False,
        "properties": {
            "apiVersion": {"const": version},
            "kind": {"const": kind},
            "metadata": {"required": ["name"], "properties": {"name": _NAME}},
            "spec": spec,
        },
    }


SCHEMAS = {
    "DaskCluster": _kind(
        "kubernetes.dask.org/v1",
        "DaskCluster",
        {
            "type": "object",
            "required": ["scheduler", "worker"],
            "additionalProperties": False,
            "properties": {
                "idleTimeout": {"type": "integer"},
                "scheduler": {
                    "required": ["spec", "service"],
                    "additionalProperties": False,
                    "properties": {
                        "spec": _POD,
                        "service": {
                            "required": ["type", "selector", "ports"],
                            "properties": {
                                "ports": {
                                    "type": "array",
                                    "items": {"required": ["name", "protocol", "port", "targetPort"]},
                                }
                            },
                        },
                    },
                },
                "worker": {
                    "required": ["replicas", "spec"],
                    "additionalProperties": False,
                    "properties": {"replicas": {"type": "integer", "minimum": 1}, "spec": _POD},
                },
            },
        },
    ),
    "Job": _kind(
        "batch/v1",
        "Job",
        {
            "type": "object",
            "required": ["template", "backoffLimit"],
            "additionalProperties": False,
            "properties": {
                "backoffLimit": {"type": "integer"},
                "template": {
                    "required": ["spec"],
                    "additionalProperties": False,
                    "properties": {"spec": _POD | {"required": [*_POD["required"], "restartPolicy"]}},  # type: ignore[misc]
                },
            },
        },
    ),
}
"""The parts of the operator's custom resource (dask-kubernetes, DaskCluster v1) and of Kubernetes' Job that we use."""

_ROLE = (
    "image",
    "build",
    "entrypoint",
    "command",
    "environment",
    "depends_on",
    "healthcheck",
    "profiles",
    "deploy",
)
_LIMITS = ("volumes", "tmpfs", "read_only", "security_opt", "cap_drop", "restart", "mem_limit")
COMPOSE = {
    "type": "object",
    "required": ["name", "services"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": _NAME,
        "services": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["image"],
                "additionalProperties": False,
                "properties": {name: {} for name in (*_ROLE, *_LIMITS)},
            },
        },
    },
}
"""The keys of the Compose specification that we use."""


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _validate(document: Any, schema: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (the extra test)")
    jsonschema.validate(document, schema)


def _pods(document: Any) -> Iterator[dict[str, Any]]:
    spec = document["spec"]
    yield from (
        [spec["template"]["spec"]]
        if document["kind"] == "Job"
        else [spec["scheduler"]["spec"], spec["worker"]["spec"]]
    )


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_fit_their_schemas(path: Path) -> None:
    document = _read(path)
    _validate(document, SCHEMAS[document["kind"]])
    for pod in _pods(document):
        volumes = {volume["name"] for volume in pod["volumes"]}
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == volumes


def test_manifests_are_of_one_cluster() -> None:
    cluster, job = (_read(DEPLOY / "kubernetes" / name) for name in ("cluster.yaml", "convert.yaml"))
    service = cluster["spec"]["scheduler"]["service"]
    name = cluster["metadata"]["name"]
    assert service["selector"] == {
        "dask.org/cluster-name": name,
        "dask.org/component": "scheduler",
    }
    address = f"tls://{name}-scheduler:{service['ports'][0]['port']}"
    (converts,) = job["spec"]["template"]["spec"]["containers"]
    (worker,) = cluster["spec"]["worker"]["spec"]["containers"]
    assert address in converts["args"] and address in worker["command"]
    assert (
        len({container["image"] for pod in [*_pods(cluster), *_pods(job)] for container in pod["containers"]})
        == 1
    )


def test_the_compose_file_fits_its_schema() -> None:
    document = _read(DEPLOY / "compose.yaml")
    _validate(document, COMPOSE)
    services = document["services"]
    for service in services.values():
        for name, asked in service.get("depends_on", {}).items():
            assert asked == {"condition": "service_healthy"}
            assert name in services
        if "build" in service:
            assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    command = services["convert"]["command"]
    assert {"tls://scheduler:8786"} <= set(command) & set(services["worker"]["entrypoint"])


def test_commands_exist_and_take_their_options() -> None:
    """Of pcap2arrow in all files, and of Dask."""
    (job,) = _read(DEPLOY / "kubernetes" / "convert.yaml")["spec"]["template"]["spec"]["containers"]
    services = _read(DEPLOY / "compose.yaml")["services"]
    for words in (job["args"], services["convert"]["command"]):
        verb = commands.get_command(None, words[0])  # type: ignore[arg-type]
        assert verb is not None
        known = {option for parameter in verb.params for option in parameter.opts}
        assert {word for word in words[1:] if word.startswith("-")} <= known
    (scheduler,), (worker,) = (
        pod["containers"] for pod in _pods(_read(DEPLOY / "kubernetes" / "cluster.yaml"))
    )
    for words in (
        scheduler["command"],
        worker["command"],
        services["scheduler"]["entrypoint"],
        services["worker"]["entrypoint"],
    ):
        module = {"scheduler": "distributed.cli.dask_scheduler", "worker": "distributed.cli.dask_worker"}[
            words[1]
        ]
        main = __import__(module, fromlist=["main"]).main
        known = {
            option for parameter in main.params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert {word for word in words[2:] if word.startswith("--")} <= known


def test_the_image_is_slim_and_not_roots() -> None:
    parser = pytest.importorskip(
        "dockerfile_parse", reason="dockerfile-parse is not installed (the extra test)"
    )
    path = DEPLOY / "Dockerfile"
    with path.open("rb") as file:
        steps = parser.DockerfileParser(fileobj=file).structure
    said = [(step["instruction"], step["value"]) for step in steps if step["instruction"] != "COMMENT"]
    images = [value for word, value in said if word == "FROM"]
    assert all(re.match(r"python:[\d.]+-slim-\w+", image) for image in images)
    last = max(place for place, (word, _) in enumerate(said) if word == "FROM")
    final = said[last:]
    users = [value for word, value in final if word == "USER"]
    assert users and int(users[-1].partition(":")[0]) > 0
    assert {"HEALTHCHECK", "ENTRYPOINT"} <= {word for word, _ in final}
    for word, value in said:
        assert word not in ("ADD", "MAINTAINER")
        if word in ("ENTRYPOINT", "CMD"):
            assert isinstance(json.loads(value), list)
        if word == "COPY" and not value.startswith("--from="):
            assert all((PROJECT / source).exists() for source in value.split()[:-1])
        if word == "RUN" and "pip install" in value:
            assert "--no-cache-dir" in value


def test_the_script_is_sound(tool: Callable[[str], str]) -> None:
    script = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK)
    subprocess.run([tool("shellcheck"), script], check=True)


SBATCH = """#!/usr/bin/env bash
# Runs what it is given at once, an array task by task, backwards.
set -euo pipefail
while [[ $1 == --* ]]; do
    case $1 in
        --array=*) array=${1#--array=} ;;
        --dependency=*) [[ ${1#--dependency=} == afterany:77 ]] ;;
    esac
    shift
done
echo "$*" >> "$SAID"
if [[ -n ${array:-} ]]; then
    [[ $array =~ ^0-([0-9]+)%[0-9]+$ ]]
    for ((task = BASH_REMATCH[1]; task >= 0; task--)); do
        SLURM_ARRAY_TASK_ID=$task "$@" >> "$SAID" 2>&1
    done
    echo "77;cluster"
else
    "$@" >> "$SAID" 2>&1
    echo 78
fi
"""


def _submit(tmp_path: Path, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the script where ``sbatch`` is a loop, and ``pcap2arrow`` this one."""
    tools = tmp_path / "tools"
    tools.mkdir(exist_ok=True)
    own = f'#!/bin/sh\nPYTHONPATH={PROJECT} exec {sys.executable} -m jobs.cli "$@"\n'
    for name, text in (("sbatch", SBATCH), ("pcap2arrow", own)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment |= {"PATH": f"{tools}:{os.environ['PATH']}", "SAID": str(tmp_path / "said")}
    return subprocess.run(
        [DEPLOY / "slurm.sh", *words], env=os.environ | environment, capture_output=True, text=True
    )


def test_it_submits_an_array_and_a_commit(tmp_path: Path) -> None:
    """Of captures of which one is damaged, which counts as a failure, but only in the end."""
    archive = tmp_path / "archive"
    archive.mkdir()
    write_capture(archive / "small.pcap", seed=1, octets=40_000)
    (archive / "damaged.pcapng").write_bytes(SAMPLE.read_bytes()[:-100])
    done = _submit(tmp_path, archive, tmp_path / "dataset", tmp_path / "plan")
    said = (tmp_path / "said").read_text()
    assert (done.returncode, done.stdout) == (1, "1 units\n"), (done.stderr, said)
    assert "2 captures: 2 converted, 1 of them damaged" in said
    run("convert", archive, "-o", tmp_path / "expected", code=1)
    assert live_files(tmp_path / "dataset") == live_files(tmp_path / "expected")
    again = _submit(tmp_path, archive, tmp_path / "dataset", tmp_path / "again")
    assert (again.returncode, again.stdout) == (0, "0 units\n"), again.stderr


def test_tasks_of_an_array_write_all_units(tmp_path: Path) -> None:
    """Three tasks, each by its index, the last one first."""
    write_capture(tmp_path / "large.pcap", seed=1, octets=1 << 20)
    found, options = find_captures([tmp_path / "large.pcap"]), Options(block=1 << 17)
    plan, _ = make_plan(found, tmp_path / "dataset", tmp_path / "plan", options)
    assert len(plan) > 4
    for task in (2, 0, 1):
        words = ("unit", tmp_path / "plan", str(len(plan)), "3")
        assert _submit(tmp_path, *words, SLURM_ARRAY_TASK_ID=str(task)).returncode == 0
    committed = _submit(tmp_path, "commit", tmp_path / "plan")
    assert "1 capture: 1 converted" in committed.stdout, committed.stderr
    convert(found, tmp_path / "expected", options)
    assert live_files(tmp_path / "dataset") == live_files(tmp_path / "expected")


def test_the_script_tells_how_it_is_used(tmp_path: Path) -> None:
    done = _submit(tmp_path, tmp_path)
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("usage: ")
