"""Stands in for `kubectl` where there is no cluster: renders and parses with the real one, and records what a cluster
would have got.

KUBECTL is the real program, RECORD the file with the objects so far. Like a cluster it refuses an object whose
namespace does not exist, and a question about what is not there. It knows the commands of docs/kubernetes.md alone.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

KUBECTL = os.environ["KUBECTL"]
RECORD = Path(os.environ["RECORD"])
KINDS = {"deployment": "Deployment", "statefulset": "StatefulSet", "secret": "Secret"}
ONE_CLAIM = "{.items[*].spec.volumeName}"

Object = dict[str, Any]


def main(words: list[str]) -> None:
    real(*words, "--help")  # it knows all these options
    objects: list[Object] = json.loads(RECORD.read_text()) if RECORD.exists() else []
    namespace = words[words.index("-n") + 1] if "-n" in words else "default"
    rest = [word for number, word in enumerate(words) if word != "-n" and words[number - 1] != "-n"]
    match rest:
        case ["apply", "-k", folder]:
            objects = apply(objects, real("kustomize", folder), namespace)
        case ["apply", "-f", file]:
            objects = apply(objects, Path(file).read_text(), namespace)
        case ["create", "secret", *_]:
            objects = apply(objects, real(*words, "--dry-run=client", "-o", "yaml"), namespace)
        case ["delete", "-k", folder]:
            gone = [key(thing, namespace) for thing in parse(real("kustomize", folder))]
            objects = [thing for thing in objects if key(thing, namespace) not in gone]
            namespaces = {thing["metadata"]["name"] for thing in objects if thing["kind"] == "Namespace"}
            objects = [thing for thing in objects if thing["metadata"].get("namespace", "") in {"", *namespaces}]
        case ["delete", kinds, "--all"]:
            chosen = [KINDS[kind] for kind in kinds.split(",")]
            find(objects, chosen, namespace)
            objects = [thing for thing in objects if thing["kind"] not in chosen]
        case ["get", "secret", name, "-o", path]:
            (found,) = find(objects, ["Secret"], namespace, name)
            print(printed(found, path), end="")
        case ["get", "pvc", "-o", path] if path == f"jsonpath={ONE_CLAIM}":
            print(" ".join(volumes(objects, namespace)), end="")
        case ["patch", "pv", name, "-p", patch]:
            assert name in volumes(objects, "sluice"), name
            json.loads(patch)
        case ["rollout", "status", thing, *_]:
            kind, _, name = thing.partition("/")
            find(objects, [KINDS[kind]], namespace, name)
        case ["wait", *_, kind, "--all"]:
            find(objects, [KINDS[kind]], namespace)
        case ["port-forward", thing, _]:
            find(objects, ["Service"], namespace, thing.partition("/")[2])
        case _:
            sys.exit(f"no such command on the page: {words}")
    RECORD.write_text(json.dumps(objects))


def real(*words: str, text: str | None = None) -> str:
    done = subprocess.run([KUBECTL, *words], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"kubectl {' '.join(words)}: {done.stderr}")
    return done.stdout


def parse(text: str) -> list[Object]:
    return [thing for thing in yaml.safe_load_all(text) if thing]


def apply(objects: list[Object], text: str, namespace: str) -> list[Object]:
    for thing in parse(text):
        where = thing["metadata"].get("namespace", namespace)
        if thing["kind"] != "Namespace" and where != "default":
            find(objects, ["Namespace"], "", where)
            thing["metadata"]["namespace"] = where
        objects = [known for known in objects if key(known, namespace) != key(thing, namespace)] + [thing]
    return objects


def key(thing: Object, namespace: str) -> tuple[str, str, str]:
    where = "" if thing["kind"] == "Namespace" else thing["metadata"].get("namespace", namespace)
    return thing["kind"], where, thing["metadata"]["name"]


def find(objects: list[Object], kinds: list[str], namespace: str, name: str | None = None) -> list[Object]:
    wanted = [thing for thing in objects if thing["kind"] in kinds and key(thing, "")[1] == namespace]
    found = [thing for thing in wanted if name in (None, thing["metadata"]["name"])]
    if not found:
        sys.exit(f'Error from server (NotFound): {kinds} "{name or "*"}" not found in {namespace!r}')
    return found


def printed(thing: Object, path: str) -> str:
    """What `-o jsonpath=...` prints of one object, by the real kubectl, which needs no cluster for `--local`."""
    return real("annotate", "--local", "-f", "-", "a=b", "-o", path, text=json.dumps(thing))


def volumes(objects: list[Object], namespace: str) -> list[str]:
    """The volumes that claims of these objects would be bound to."""
    sets = [thing for thing in objects if thing["kind"] == "StatefulSet"]
    templates = [claim["metadata"]["name"] for thing in sets for claim in thing["spec"]["volumeClaimTemplates"]]
    claims = [thing["metadata"]["name"] for thing in objects if thing["kind"] == "PersistentVolumeClaim"]
    return [f"pv-{namespace}-{name}" for name in (*templates, *claims)]


if __name__ == "__main__":
    main(sys.argv[1:])
