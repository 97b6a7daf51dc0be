"""Writes the broker's users, their permissions and their secrets: `python -m shared.security.broker_config --out DIR`.

    accounts.conf     for nats-server: users, bcrypt hashes of their passwords, permissions. `include` it.
    <user>.password   for that user alone
    ca.crt, ca.key, tls.crt, tls.key   with --tls: an authority of its own and the broker's certificate
    kubernetes.yaml   with --kubernetes: the same as Secrets

Running it again keeps what is there and adds what is missing, so that nobody's password changes by accident. A change
takes three steps, `--rotate`, `--switch` and `--retire`: see `shared.security.rotation`.
"""

import argparse
import base64
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import bcrypt
import yaml

from shared.contracts.graphs.nodes import Cache, Ensemble
from shared.contracts.graphs.reranking import reranked
from shared.contracts.graphs.walk import END, controls, following, is_graph, stages
from shared.contracts.graphs.written import read_pipelines as parse_pipelines
from shared.security.certificates import Authority
from shared.security.passwords import new_password, passwords_in
from shared.security.roles import ADMIN, Deployment, Role, roles
from shared.security.rotation import AUTHORITY, CERTIFICATE, retire, rotate, switch, write_secret

__all__ = ["accounts_conf", "main", "read_pipelines", "table", "write_secrets"]

ACCOUNT: Final = "SLUICE"
SYSTEM: Final = "sys"
"""The user of NATS's own account of system events, for `nats server` commands."""

ROUNDS: Final = 4
"""Of bcrypt: passwords here are 256 random bits, which no stretching makes harder to guess."""

HASH: Final = re.compile(r'password: "(\$2[^"]+)"')

RESPONSES: Final = '{ max: 1, expires: "1m" }'
"""A service may answer each message that reaches it, once: so pings need no right to write to foreign inboxes."""


def accounts_conf(known: Sequence[Role], passwords: Mapping[str, str], before: str = "") -> str:
    """The users of the broker as nats-server reads them; `passwords` in clear, by user.

    Hashes that are right in what was written `before` stay: the broker disconnects users whose hash has changed.
    """
    hashes = {name: _hash(password, before) for name, password in passwords.items()}
    users = "\n".join(_user(role, hashes[role.name]) for role in known)
    return (
        "# Written by `python -m shared.security.broker_config`: change nothing here, run it again.\n"
        "accounts {\n"
        f"  {ACCOUNT} {{\n    jetstream: enabled\n    users: [\n{users}\n    ]\n  }}\n"
        f'  SYS {{ users: [ {{ user: {SYSTEM}, password: "{hashes[SYSTEM]}" }} ] }}\n'
        "}\n"
        "system_account: SYS\n"
    )


def write_secrets(out: Path, deployment: Deployment, *, tls: Sequence[str] = ()) -> None:
    """Fill a folder that only its owner can enter. Raises OSError or ValueError."""
    out.mkdir(parents=True, exist_ok=True, mode=0o700)
    out.chmod(0o700)
    known = roles(deployment)
    passwords = {name: _password(out, name) for name in (*(role.name for role in known), SYSTEM)}
    path = out / "accounts.conf"
    write_secret(path, accounts_conf(known, passwords, path.read_text() if path.exists() else ""))
    if tls:
        Authority(out).issue("tls", tls)


def table(known: Sequence[Role]) -> str:
    """What each user may do, as the table in docs/broker.md."""
    rows = [f"| `{role.name}` | {'; '.join(grant.says for grant in role.grants) or 'everything'} |" for role in known]
    return "\n".join(["| user | may do this and nothing else |", "|---|---|", *rows])


def read_pipelines(path: Path) -> Deployment:
    """What a gateway's pipelines file says of a deployment. Raises ValueError for a file of another shape."""
    try:
        named = parse_pipelines(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no pipelines file: {error}") from error
    pipelines: list[tuple[str, ...]] = []
    follows: set[tuple[str, str]] = set()
    joined: set[str] = set()
    cached: set[str] = set()
    for steps in named.values():
        if not is_graph(steps):
            pipelines.append(tuple(stop.stage for stop in steps))
            continue
        # A request may have the passages reranked, and a step that decides may come right after that.
        ways = (steps, reranked(steps))
        pairs = following(steps) | following(ways[1])
        # A question that others came before may go to the first stages from the one that makes it stand alone.
        pipelines += [(second,) for first, second in pairs if first == END and second != END]
        follows |= {pair for pair in pairs if END not in pair}
        visited = {stop.stage for way in ways for stop in stages(way)}
        joined |= visited if any(controls(steps, Ensemble)) else set()
        cached |= visited if any(controls(steps, Cache)) else set()
    return Deployment(
        pipelines=tuple(pipelines),
        follows=frozenset(follows),
        joined=frozenset(joined),
        cached=frozenset(cached),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options().parse_args(arguments)
    if options.table:
        sys.stdout.write(table(roles()) + "\n")
        return
    if options.out is None:
        raise SystemExit("broker_config: name a folder with --out")
    variants: dict[str, list[str]] = {}
    for stage, _, variant in (given.partition("=") for given in options.variant):
        variants.setdefault(stage, []).append(variant or "default")
    try:
        deployment = read_pipelines(options.pipelines) if options.pipelines else Deployment()
        deployment = replace(deployment, variants=variants)
        _change(options)
        write_secrets(options.out, deployment, tls=options.tls.split(",") if options.tls else ())
    except ValueError as error:
        raise SystemExit(f"broker_config: {error}") from None
    if options.kubernetes:
        write_secret(options.out / "kubernetes.yaml", _manifests(options.out, roles(deployment)))
    sys.stdout.write(f"wrote {options.out}: accounts.conf for the broker, a password for each of its users\n")


def _change(options: argparse.Namespace) -> None:
    """The steps of changes. Raises ValueError for one that cannot be taken."""
    if CERTIFICATE in (*options.switch, *options.retire) or (CERTIFICATE in options.rotate and not options.tls):
        raise ValueError("the certificate takes one step: --rotate certificate, together with --tls")
    for name in options.rotate:
        rotate(options.out, name, people=(ADMIN, SYSTEM))
    for name in options.switch:
        switch(options.out, name)
    for name in options.retire:
        retire(options.out, name)


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m shared.security.broker_config", description="Users of the broker.")
    parser.add_argument("--out", type=Path, help="folder for what is written; keep it out of the repo")
    parser.add_argument("--pipelines", type=Path, help="the gateway's pipelines file: own stages, and who follows whom")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="STAGE=NAME",
        help="a variant besides default and canary, or an own stage; may be repeated",
    )
    parser.add_argument("--tls", metavar="HOST,HOST", help="make an authority and a certificate for these names")
    named = f"a user, or '{AUTHORITY}'"
    for step, what in {
        "--rotate": f"give {named} a second password or key, which is known before it counts; or '{CERTIFICATE}'",
        "--switch": f"have the second one of {named} count, which is known everywhere by now",
        "--retire": f"forget the one before of {named}",
    }.items():
        parser.add_argument(step, action="append", default=[], metavar="NAME", help=what)
    parser.add_argument("--kubernetes", action="store_true", help="write kubernetes.yaml too")
    parser.add_argument("--table", action="store_true", help="only show what each user may do, in words")
    return parser


def _user(role: Role, password: str) -> str:
    head = f'      {{ user: "{role.name}", password: "{password}"'
    if not role.grants:
        return f"{head} }}"
    deny = f", deny: {json.dumps(role.not_subscribe)}" if role.not_subscribe else ""
    return (
        f"{head}, permissions: {{\n"
        f"        publish: {{ allow: {_list(role.publish)} }}\n"
        f"        subscribe: {{ allow: {_list(role.subscribe)}{deny} }}\n"
        f"        allow_responses: {RESPONSES}\n"
        "      } }"
    )


def _list(subjects: Iterable[str]) -> str:
    rows = "".join(f"\n          {json.dumps(subject)}" for subject in subjects)
    return f"[{rows}\n        ]"


def _hash(password: str, before: str) -> str:
    for known in HASH.findall(before):
        if bcrypt.checkpw(password.encode(), known.encode()):
            return str(known)
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(ROUNDS)).decode()


def _password(out: Path, name: str) -> str:
    """The password in force."""
    path = out / f"{name}.password"
    if not path.exists():
        write_secret(path, new_password())
    return passwords_in(path.read_text())[0]


def _manifests(out: Path, known: Sequence[Role]) -> str:
    return yaml.safe_dump_all(_secrets(out, known), sort_keys=False)


def _secrets(out: Path, known: Sequence[Role]) -> Iterator[dict[str, Any]]:
    """The Secrets that deploy/k8s refers to."""
    yield _secret("sluice-nats-accounts", {"accounts.conf": out / "accounts.conf"})
    for role in known:
        if role.name == ADMIN:
            continue  # it belongs to people, not to the cluster
        secret = _secret(f"sluice-nats-{role.name}", {"password": out / f"{role.name}.password"})
        secret["data"]["user"] = base64.b64encode(role.name.encode()).decode()
        yield secret
    if (out / "ca.crt").exists():
        yield _secret("sluice-nats-ca", {"ca.crt": out / "ca.crt"})
        yield _secret("sluice-nats-server-tls", {name: out / name for name in ("ca.crt", "tls.crt", "tls.key")})


def _secret(name: str, files: Mapping[str, Path]) -> dict[str, Any]:
    data = {key: base64.b64encode(path.read_bytes()).decode() for key, path in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "sluice"}, "data": data}


if __name__ == "__main__":
    main()
