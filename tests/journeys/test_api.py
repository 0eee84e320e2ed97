"""The API over real HTTP against a real node, as an administrator, two users and nobody.

Ada owns things, Eve is signed in and a stranger to them (and sometimes an attacker), nobody has no token.
"""

import http.client
import itertools
import json
import random
import re
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from mainstay.boot import setup_django
from support.api_client import ApiClient
from support.databases import postgres_server  # noqa: F401 - a fixture works by being here
from support.node import Node

setup_django()

from mainstay.doors.api.urls import ROUTES  # noqa: E402 - needs Django's registry

ADA_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGyzd1ATkVIfEJYKYmoY5fjYXpDSIyqYyyJ8HHXXhN3r ada@engine"
PASSWORD = "correct horse battery staple"


@dataclass(frozen=True)
class People:
    node: Node
    admin: ApiClient
    ada: ApiClient
    eve: ApiClient
    nobody: ApiClient
    ids: dict[str, int]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_options(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "sqlite":
        return []
    server = request.getfixturevalue("postgres_server")
    return ["--database-url", server.url(server.create_database())]


@pytest.fixture(scope="module")
def people(database_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[People]:
    with Node(tmp_path_factory.mktemp("api") / "node", options=database_options) as node:
        admin = ApiClient(node.http_port, node.token(scopes="api,sudo"))
        ids = {name: new_user(admin, name) for name in ("ada", "eve")}
        ada, eve = (ApiClient(node.http_port, token_for(admin, ids[name])) for name in ("ada", "eve"))
        yield People(node, admin, ada, eve, ApiClient(node.http_port), ids)


def new_user(admin: ApiClient, name: str) -> int:
    body = {"username": name, "name": name.title(), "email": f"{name}@example.org", "password": PASSWORD}
    return admin.ok("POST", "/users", body)["id"]


def token_for(admin: ApiClient, user_id: int, *scopes: str) -> str:
    body = {"name": "test", "scopes": list(scopes or ("api",))}
    return admin.ok("POST", f"/users/{user_id}/personal_access_tokens", body)["token"]


def new_project(client: ApiClient, **more: Any) -> dict[str, Any]:
    body = {"name": f"p{secrets.token_hex(4)}", "initialize_with_readme": True, **more}
    return client.ok("POST", "/projects", body).body


@pytest.fixture
def project(people: People) -> dict[str, Any]:
    """A private project of Ada's with one commit."""
    return new_project(people.ada)


# Ways of asking


@pytest.mark.parametrize(
    "headers",
    [
        lambda token: {"PRIVATE-TOKEN": token},
        lambda token: {"private-token": token},
        lambda token: {"Authorization": f"Bearer {token}"},
        lambda token: {"Authorization": f"bearer {token}"},
    ],
)
def test_a_token_comes_in_either_header(people: People, headers: Any) -> None:
    answer = people.nobody.get("/user", headers=headers(people.ada.token))
    assert (answer.status, answer["username"]) == (200, "ada")


@pytest.mark.parametrize("name", ["private_token", "access_token"])
def test_a_token_may_be_a_parameter_and_never_shows_in_links(people: People, name: str) -> None:
    answer = people.nobody.get(f"/users?{name}={people.ada.token}&per_page=1")
    assert answer.status == 200
    assert people.ada.token not in str(answer.headers)


@pytest.mark.parametrize("path", ["/projects", "/version", "/user"])
def test_a_wrong_token_is_refused_where_none_would_do(people: People, path: str) -> None:
    answer = ApiClient(people.node.http_port, "glpat-00000000000000000000").get(path)
    assert (answer.status, answer.body) == (401, {"message": "401 Unauthorized"})


def test_job_and_deploy_tokens_are_no_api_tokens(people: People, project: dict[str, Any]) -> None:
    made = people.ada.ok(
        "POST", f"/projects/{project['id']}/deploy_tokens", {"name": "d", "scopes": ["read_repository"]}
    )
    assert ApiClient(people.node.http_port, made["token"]).get("/projects").status == 401
    assert people.nobody.get("/projects", headers={"JOB-TOKEN": people.ada.token}).status == 401


def test_parameters_come_in_path_query_form_and_json(people: People, project: dict[str, Any]) -> None:
    branches = f"/projects/{project['id']}/repository/branches"
    assert people.ada.post(f"{branches}?branch=q&ref=main", {}).status == 201
    assert people.ada.post(branches, form={"branch": "f", "ref": "main"}).status == 201
    assert people.ada.post(branches, {"branch": "j", "ref": "main"}).status == 201
    boundary = "x1y2"
    parts = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("branch", "m"), ("ref", "main"))
    )
    multipart = people.ada.call(
        "POST",
        branches,
        raw=f"{parts}--{boundary}--\r\n".encode(),
        headers={"Content-Type": f"multipart/form-data; boundary={boundary}"},
    )
    assert multipart.status == 201
    assert {"f", "j", "m", "main", "q"} == {each["name"] for each in people.ada.get(branches).body}


@pytest.mark.parametrize(
    ("sent", "status", "body"),
    [
        ({"raw": b"{", "headers": {"Content-Type": "application/json"}}, 400, None),
        ({"body": [1]}, 400, {"error": "the body is not a JSON object"}),
        ({"raw": b"[" * 50_000, "headers": {"Content-Type": "application/json"}}, 400, None),
        ({"raw": b"\xff\xfe", "headers": {"Content-Type": "application/json"}}, 400, None),
        ({"raw": b"x", "headers": {"Content-Type": "text/plain"}}, 415, None),
        ({"form": {f"a{number}": "1" for number in range(1500)}}, 400, None),
        ({"body": {"name": "a\x00b"}}, 400, {"error": "name does not have a valid value"}),
        ({"body": {"name": "\ud800"}}, 400, {"error": "name does not have a valid value"}),
        ({"body": {"name": {"k": "v"}}}, 400, {"error": "name does not have a valid value"}),
        ({"body": {}}, 400, {"error": "name, path are missing, at least one parameter must be provided"}),
        ({"body": {"path": "-bad"}}, 400, None),
        (
            {"body": {"path": "x", "visibility": "secret"}},
            400,
            {"error": "visibility does not have a valid value"},
        ),
    ],
)
def test_a_bad_body_is_a_clear_refusal(
    people: People, sent: dict[str, Any], status: int, body: dict[str, str] | None
) -> None:
    answer = people.ada.call("POST", "/projects", **sent)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/json"
    assert body is None or answer.body == body


def test_an_oversized_body_is_refused_before_it_is_read(people: People) -> None:
    answer = people.ada.call(
        "POST", "/projects", raw=b" " * (21 << 20), headers={"Content-Type": "application/json"}
    )
    assert answer.status == 413


def test_a_chunked_body_is_read_within_its_limit(people: People) -> None:
    def chunked(*chunks: bytes) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", people.node.http_port, timeout=60)
        with closing(connection):
            headers = {"PRIVATE-TOKEN": people.ada.token, "Content-Type": "application/json"}
            connection.request("POST", "/api/v4/projects", iter(chunks), headers, encode_chunked=True)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    name = f"c{secrets.token_hex(4)}"
    status, body = chunked(b'{"name": ', f'"{name}"}}'.encode())
    assert (status, body["name"]) == (201, name)
    status, body = chunked(*[b" " * (1 << 20)] * 21)
    assert (status, body["message"].startswith("413 ")) == (413, True)


def test_unknown_routes_and_methods(people: People) -> None:
    assert people.nobody.get("/no/such/route").body == {"error": "404 Not Found"}
    assert people.ada.get("").status == 404
    answer = people.ada.call("PATCH", "/user")
    assert (answer.status, answer.body) == (405, {"error": "405 Not Allowed"})
    assert "GET" in answer.headers["allow"]


def test_head_answers_like_get_without_a_body(people: People, project: dict[str, Any]) -> None:
    for path in (
        "/projects",
        f"/projects/{project['id']}",
        f"/projects/{project['id']}/repository/branches/main",
    ):
        head, get = people.ada.call("HEAD", path), people.ada.get(path)
        assert (head.status, head.body) == (200, None)
        assert head.headers["content-type"] == get.headers["content-type"] == "application/json"
        assert head.headers.get("x-total") == get.headers.get("x-total")


def test_paths_stay_encoded_until_they_are_split(people: People, project: dict[str, Any]) -> None:
    group = people.ada.ok("POST", "/groups", {"name": "G", "path": f"g.{secrets.token_hex(3)}"}).body
    new_project(people.ada, path="dot.ted", namespace_id=group["id"])
    found = people.ada.get(f"/projects/{group['path']}%2Fdot.ted")
    assert found["path_with_namespace"] == f"{group['path']}/dot.ted"
    assert people.ada.get(f"/projects/{group['path']}/dot.ted").status == 404
    assert people.ada.get(f"/projects/{group['path']}%252Fdot.ted").status == 404
    own = f"/projects/{project['id']}/repository/branches"
    people.ada.ok("POST", own, {"branch": "feature/x.y", "ref": "main"})
    assert people.ada.get(f"{own}/feature%2Fx.y")["name"] == "feature/x.y"
    assert people.ada.get(f"{own}/feature%2fx%2Ey")["name"] == "feature/x.y"
    for trick in ("..%2f..%2fetc", "%00", "%FF", "--all", "HEAD", "refs%2Fheads%2Fmain", "main%0a"):
        assert people.ada.get(f"{own}/{trick}").status == 404, trick


# Pages


def test_pages_lead_to_each_other(people: People) -> None:
    group = people.ada.ok("POST", "/groups", {"name": "Many", "path": f"m{secrets.token_hex(4)}"}).body
    for number in range(5):
        people.ada.ok("POST", "/projects", {"name": f"n{number}", "namespace_id": group["id"]})
    path = f"/groups/{group['id']}/projects?per_page=2&order_by=name&sort=asc"
    seen: list[str] = []
    pages = 0
    while path:
        answer = people.ada.get(path)
        assert (answer.headers["x-total"], answer.headers["x-total-pages"]) == ("5", "3")
        seen += [each["name"] for each in answer.body]
        pages += 1
        path = next_of(answer.headers["link"])
    assert (seen, pages) == (["n0", "n1", "n2", "n3", "n4"], 3)
    beyond = people.ada.get(f"/groups/{group['id']}/projects?page=9")
    assert (beyond.status, beyond.body) == (200, [])
    wrong = people.ada.get("/projects?page=x")
    assert (wrong.status, wrong.body) == (400, {"error": "page does not have a valid value"})


def test_keyset_pages_lead_onwards_without_totals(people: People) -> None:
    wanted = {new_project(people.ada, initialize_with_readme=False)["id"] for _ in range(3)}
    path, seen = "/projects?pagination=keyset&order_by=id&sort=asc&per_page=2&owned=true", set[int]()
    while path:
        answer = people.ada.get(path)
        assert "x-total" not in answer.headers
        seen |= {each["id"] for each in answer.body}
        path = next_of(answer.headers.get("link", ""))
    assert wanted <= seen
    assert people.ada.get("/projects?pagination=keyset&order_by=name").status == 405


def next_of(link: str) -> str:
    """The path of the link to the next page, relative to the API; empty when there is none."""
    for part in link.split(", "):
        if part.endswith('rel="next"'):
            return part[1 : part.index(">")].partition("/api/v4")[2]
    return ""


# What may be done


def test_version_and_metadata_need_somebody(people: People) -> None:
    assert people.ada.get("/version")["version"].count(".") == 2
    assert people.ada.get("/metadata")["version"] == people.ada.get("/version")["version"]
    assert people.nobody.get("/version").status == 401


def test_a_project_lives_from_creation_to_deletion(people: People) -> None:
    name = f"engine{secrets.token_hex(3)}"
    made = people.ada.ok("POST", "/projects", {"name": name, "initialize_with_readme": True}).body
    assert (made["default_branch"], made["empty_repo"], made["visibility"]) == ("main", False, "private")
    assert made["permissions"]["project_access"]["access_level"] == 50
    assert made["http_url_to_repo"] == f"{people.node.url}/ada/{name}.git"
    assert made["ssh_url_to_repo"] == people.node.ssh_url(f"ada/{name}")
    path = f"/projects/ada%2F{name}"
    changed = people.ada.put(path, {"description": "Ünïcode", "visibility": "public", "topics": ["a", "b"]})
    assert (changed["description"], changed["visibility"], changed["topics"]) == (
        "Ünïcode",
        "public",
        ["a", "b"],
    )
    assert people.nobody.get(path)["description"] == "Ünïcode"
    assert people.ada.post(f"{path}/archive")["archived"] is True
    refused = people.ada.post(f"{path}/repository/branches", {"branch": "b", "ref": "main"})
    assert (refused.status, "archived" in refused["message"]) == (403, True)
    assert people.ada.post(f"{path}/unarchive")["archived"] is False
    again = people.ada.post("/projects", {"name": name})
    assert (again.status, again.body) == (400, {"message": {"path": ["has already been taken"]}})
    gone = people.ada.delete(path)
    assert (gone.status, gone.body) == (202, {"message": "202 Accepted"})
    assert people.ada.get(path).status == 404


def test_what_is_not_built_is_refused_in_a_sentence(people: People) -> None:
    by_url = people.ada.post("/projects", {"name": "imported", "import_url": "http://example.org/x.git"})
    assert (by_url.status, list(by_url["message"])) == (400, ["import_url"])
    sha256 = people.ada.post("/projects", {"name": "long", "repository_object_format": "sha256"})
    assert (sha256.status, list(sha256["message"])) == (400, ["repository_object_format"])


def test_branches_and_tags(people: People, project: dict[str, Any]) -> None:
    repository = f"/projects/{project['id']}/repository"
    main = people.ada.get(f"{repository}/branches/main").body
    assert (main["default"], main["merged"], main["can_push"]) == (True, False, True)
    assert main["commit"]["title"] == "Initial commit"
    made = people.ada.ok("POST", f"{repository}/branches", {"branch": "topic", "ref": "main"})
    assert (made.status, made["merged"]) == (201, True)
    again = people.ada.post(f"{repository}/branches", {"branch": "topic", "ref": "main"})
    assert (again.status, again.body) == (400, {"message": "Branch already exists"})
    for bad in ("a..b", "a b", "-x", "x.lock", "a~", "", "/"):
        assert people.ada.post(f"{repository}/branches", {"branch": bad, "ref": "main"}).status == 400, bad
    nowhere = people.ada.post(f"{repository}/branches", {"branch": "n", "ref": "nowhere"})
    assert nowhere.body == {"message": "Invalid reference name: nowhere"}
    light = people.ada.ok("POST", f"{repository}/tags", {"tag_name": "v1", "ref": main["commit"]["id"]})
    assert (light["message"], light["target"]) == ("", main["commit"]["id"])
    annotated = people.ada.ok(
        "POST", f"{repository}/tags", {"tag_name": "v2", "ref": "main", "message": "Two"}
    )
    assert annotated["message"] == "Two"
    assert annotated["target"] != annotated["commit"]["id"] == main["commit"]["id"]
    assert {each["name"] for each in people.ada.get(f"{repository}/tags?search=v").body} == {"v1", "v2"}
    assert people.ada.delete(f"{repository}/tags/v1").status == 204
    assert people.ada.get(f"{repository}/tags/v1").body == {"message": "404 Tag Not Found"}
    assert people.ada.delete(f"{repository}/branches/topic").status == 204
    assert people.ada.get(f"{repository}/branches/topic").body == {"message": "404 Branch Not Found"}
    assert people.ada.delete(f"{repository}/branches/main").status == 400
    assert people.ada.get(f"{repository}/commits/v2")["id"] == main["commit"]["id"]
    assert [each["id"] for each in people.ada.get(f"{repository}/commits").body] == [main["commit"]["id"]]


def test_an_empty_project_has_empty_lists(people: People) -> None:
    empty = new_project(people.ada, initialize_with_readme=False)
    assert (empty["empty_repo"], empty["default_branch"]) == (True, None)
    for part in ("branches", "tags", "commits"):
        answer = people.ada.get(f"/projects/{empty['id']}/repository/{part}")
        assert (answer.status, answer.body) == (200, [])


def test_protection_binds_the_api_too(people: People, project: dict[str, Any]) -> None:
    own = f"/projects/{project['id']}"
    people.ada.ok("POST", f"{own}/members", {"user_id": people.ids["eve"], "access_level": 30})
    rule = people.ada.ok("POST", f"{own}/protected_branches", {"name": "release/*", "push_access_level": 0})
    assert rule["push_access_levels"][0]["access_level_description"] == "No one"
    again = people.ada.post(f"{own}/protected_branches", {"name": "release/*"})
    assert (again.status, "already exists" in again["message"]) == (409, True)
    branches = f"{own}/repository/branches"
    refused = people.eve.post(branches, {"branch": "release/1", "ref": "main"})
    assert (refused.status, "protected branch" in refused["message"]) == (403, True)
    people.eve.ok("POST", branches, {"branch": "free", "ref": "main"})
    people.ada.ok("DELETE", f"{own}/protected_branches/release%2F*")
    people.eve.ok("POST", branches, {"branch": "release/1", "ref": "main"})
    people.ada.ok("POST", f"{own}/protected_tags", {"name": "v*"})
    tag = people.eve.post(f"{own}/repository/tags", {"tag_name": "v1", "ref": "main"})
    assert (tag.status, "protected tag" in tag["message"]) == (403, True)
    assert people.ada.get(f"{own}/protected_tags").body[0]["name"] == "v*"


def test_members_come_and_go(people: People, project: dict[str, Any]) -> None:
    members = f"/projects/{project['id']}/members"
    eve = people.ids["eve"]
    assert people.eve.get(f"/projects/{project['id']}").status == 404
    added = people.ada.ok("POST", members, {"user_id": eve, "access_level": 20, "expires_at": "2099-01-01"})
    assert (added["access_level"], added["expires_at"]) == (20, "2099-01-01")
    assert people.ada.post(members, {"user_id": eve, "access_level": 20}).status == 409
    assert people.eve.get(f"/projects/{project['id']}")["permissions"]["project_access"]["access_level"] == 20
    assert people.eve.put(f"/projects/{project['id']}", {"name": "mine"}).status == 403
    assert people.ada.put(f"{members}/{eve}", {"access_level": 40})["expires_at"] == "2099-01-01"
    assert people.eve.put(f"{members}/{eve}", {"access_level": 50}).status == 403
    assert people.ada.post(members, {"user_id": eve, "access_level": 31}).status == 400
    assert people.eve.delete(f"{members}/{eve}").status == 204
    assert people.eve.get(f"/projects/{project['id']}").status == 404


def test_groups_hold_groups_and_projects(people: People) -> None:
    name = f"team{secrets.token_hex(3)}"
    team = people.ada.ok("POST", "/groups", {"name": "Team", "path": name}).body
    sub = people.ada.ok("POST", "/groups", {"name": "Sub", "path": "sub", "parent_id": team["id"]}).body
    assert (sub["full_path"], sub["full_name"]) == (f"{name}/sub", "Team / Sub")
    new_project(people.ada, namespace_id=sub["id"])
    assert len(people.ada.get(f"/groups/{name}/projects?include_subgroups=true").body) == 1
    assert people.ada.get(f"/groups/{name}/projects").body == []
    assert [each["id"] for each in people.ada.get(f"/groups/{name}/subgroups").body] == [sub["id"]]
    assert people.ada.get(f"/namespaces/{name}%2Fsub")["id"] == sub["id"]
    assert people.ada.get(f"/namespaces/{name}/exists").body == {"exists": True, "suggests": [f"{name}1"]}
    last = people.ada.delete(f"/groups/{name}/members/{people.ids['ada']}")
    assert (last.status, "last owner" in last["message"]) == (409, True)
    assert people.ada.delete(f"/groups/{name}").status == 202
    assert people.ada.get(f"/groups/{name}%2Fsub").status == 404


def test_a_fork_copies_refs_and_knows_its_source(people: People, project: dict[str, Any]) -> None:
    people.ada.ok(
        "POST", f"/projects/{project['id']}/members", {"user_id": people.ids["eve"], "access_level": 20}
    )
    fork = people.eve.ok("POST", f"/projects/{project['id']}/fork").body
    assert fork["path_with_namespace"] == f"eve/{project['path']}"
    assert fork["forked_from_project"]["id"] == project["id"]
    branches = people.eve.get(f"/projects/{fork['id']}/repository/branches").body
    assert [each["name"] for each in branches] == ["main"]
    assert people.eve.post(f"/projects/{project['id']}/fork").status == 409
    people.ada.ok("DELETE", f"/projects/{project['id']}/members/{people.ids['eve']}")
    assert people.eve.get(f"/projects/{fork['id']}")["forked_from_project"] is None


def test_keys_belong_to_one_person(people: People) -> None:
    key = people.ada.ok("POST", "/user/keys", {"title": "laptop", "key": ADA_KEY}).body
    stolen = people.eve.post("/user/keys", {"title": "mine", "key": ADA_KEY})
    assert (stolen.status, stolen["message"]) == (400, {"key": ["has already been taken"]})
    assert people.eve.delete(f"/user/keys/{key['id']}").status == 404
    assert people.eve.get(f"/keys/{key['id']}").status == 403
    assert people.admin.get(f"/keys/{key['id']}")["user"]["username"] == "ada"
    assert people.ada.delete(f"/user/keys/{key['id']}").status == 204
    bad = people.ada.post("/user/keys", {"title": "x", "key": "-----BEGIN OPENSSH PRIVATE KEY-----"})
    assert (bad.status, list(bad["message"])) == (400, ["key"])


def test_administrators_find_whose_a_key_is(people: People, project: dict[str, Any]) -> None:
    key = people.ada.ok("POST", "/user/keys", {"title": "laptop", "key": ADA_KEY}).body
    wanted = quote(key["fingerprint_sha256"], safe="")
    found = people.admin.get(f"/keys?fingerprint={wanted}")
    assert (found["id"], found["user"]["username"]) == (key["id"], "ada")
    assert people.admin.get("/keys").status == 400
    assert people.admin.get("/keys?fingerprint=SHA256:nobodys").status == 404
    for other in (people.ada, people.eve):
        assert other.get(f"/keys?fingerprint={wanted}").status == 403
    assert people.nobody.get(f"/keys?fingerprint={wanted}").status == 401
    people.ada.ok("DELETE", f"/user/keys/{key['id']}")

    body = {"title": "deployer", "key": ADA_KEY, "can_push": True}
    deploy = people.ada.ok("POST", f"/projects/{project['id']}/deploy_keys", body).body
    found = people.admin.get(f"/keys?fingerprint={wanted}")
    assert (found["id"], found["user"]) == (deploy["id"], None)
    assert [each["project_id"] for each in found["deploy_keys_projects"]] == [project["id"]]
    (listed,) = [each for each in people.admin.get("/deploy_keys").body if each["id"] == deploy["id"]]
    assert [each["id"] for each in listed["projects_with_write_access"]] == [project["id"]]
    assert listed["projects_with_readonly_access"] == []
    people.ada.ok("DELETE", f"/projects/{project['id']}/deploy_keys/{deploy['id']}")


def test_administrators_see_all_deploy_tokens(people: People, project: dict[str, Any]) -> None:
    body = {"name": "reader", "scopes": ["read_repository"]}
    made = people.ada.ok("POST", f"/projects/{project['id']}/deploy_tokens", body).body
    listed = {each["id"]: each for each in people.admin.get("/deploy_tokens?per_page=100").body}
    assert listed[made["id"]]["name"] == "reader"
    assert "token" not in listed[made["id"]]
    for path in ("/deploy_tokens", "/deploy_keys"):
        assert [people.ada.get(path).status, people.nobody.get(path).status] == [403, 401]


def test_tokens_narrow_what_one_may(people: People) -> None:
    port, ada = people.node.http_port, people.ids["ada"]
    reader = ApiClient(port, token_for(people.admin, ada, "read_api"))
    assert reader.get("/projects").status == 200
    refused = reader.post("/projects", {"name": "x"})
    assert (refused.status, refused["error"], refused["scope"]) == (403, "insufficient_scope", "api")
    about_me = ApiClient(port, token_for(people.admin, ada, "read_user"))
    assert about_me.get("/user")["username"] == "ada"
    assert about_me.get("/projects").status == 403
    assert about_me.get("/personal_access_tokens/self")["scopes"] == ["read_user"]
    assert ApiClient(port, token_for(people.admin, ada, "read_repository")).get("/user").status == 403
    own = people.ada.post("/user/personal_access_tokens", {"name": "x", "scopes": ["api"]})
    assert own.status == 400


def test_a_token_is_rotated_and_revoked(people: People) -> None:
    token = ApiClient(people.node.http_port, token_for(people.admin, people.ids["ada"]))
    rotated = token.ok("POST", "/personal_access_tokens/self/rotate")
    assert token.get("/user").status == 401
    fresh = ApiClient(people.node.http_port, rotated["token"])
    assert fresh.get("/user").status == 200
    assert fresh.delete("/personal_access_tokens/self").status == 204
    assert fresh.get("/user").status == 401


def test_sudo_is_for_administrators_with_a_token_made_for_it(people: People) -> None:
    assert people.admin.get("/user?sudo=ada")["username"] == "ada"
    assert people.admin.get("/user", headers={"Sudo": str(people.ids["eve"])})["username"] == "eve"
    assert people.ada.get("/user?sudo=root").status == 403
    assert people.admin.get("/user?sudo=nobody-here").status == 404
    without = ApiClient(people.node.http_port, people.node.token(scopes="api"))
    assert (without.get("/user?sudo=ada").status, without.get("/user").status) == (403, 200)
    made = people.admin.ok("POST", f"/projects?sudo=eve&name=s{secrets.token_hex(3)}")
    assert made["owner"]["username"] == "eve"


def test_a_blocked_user_is_locked_out_at_once(people: People) -> None:
    user = new_user(people.admin, f"mallory{secrets.token_hex(2)}")
    client = ApiClient(people.node.http_port, token_for(people.admin, user))
    assert client.get("/user").status == 200
    assert people.admin.post(f"/users/{user}/block").body is True
    assert client.get("/user").status == 401
    assert people.admin.post(f"/users/{user}/unblock").body is True
    assert client.get("/user").status == 200
    assert people.admin.post(f"/users/{people.admin.get('/user')['id']}/block").status == 403
    assert people.admin.delete(f"/users/{user}").status == 204


def test_users_are_managed_by_administrators_only(people: People) -> None:
    assert people.ada.post("/users", {"username": "x"}).status == 403
    assert people.ada.put(f"/users/{people.ids['ada']}", {"admin": True}).status == 403
    assert people.ada.delete(f"/users/{people.ids['eve']}").status == 403
    assert "email" not in people.ada.get(f"/users/{people.ids['eve']}").body
    assert people.admin.get(f"/users/{people.ids['eve']}")["email"] == "eve@example.org"
    assert [each["username"] for each in people.ada.get("/users?username=EVE").body] == ["eve"]
    assert people.nobody.get("/users").status == 401


# What a stranger learns: nothing

METHODS = ("get", "post", "put", "patch", "delete")
IN_PROJECTS = [route for route in ROUTES if "<reference:project>" in route]
IN_GROUPS = [route for route in ROUTES if "<reference:group>" in route]


def filled(route: str, reference: str) -> str:
    """The route with a real project or group and plausible rest."""
    values = {
        "<reference:project>": reference,
        "<reference:group>": reference,
        "<segment:branch>": "main",
        "<segment:tag>": "v1",
        "<segment:sha>": "main",
        "<text:name>": "main",
        "<number:user>": "1",
        "<number:key>": "1",
        "<number:token>": "1",
    }
    for mark, value in values.items():
        route = route.replace(mark, value)
    assert "<" not in route, route
    return f"/{route}"


@pytest.mark.parametrize("who", ["eve", "nobody"])
def test_a_private_project_is_unknown_on_every_route(
    people: People, project: dict[str, Any], who: str
) -> None:
    stranger: ApiClient = getattr(people, who)
    people.ada.ok("POST", f"/projects/{project['id']}/repository/tags", {"tag_name": "v1", "ref": "main"})
    encoded = project["path_with_namespace"].replace("/", "%2F")
    tried = 0
    for route, reference in itertools.product(IN_PROJECTS, (str(project["id"]), encoded)):
        for method in [each for each in METHODS if hasattr(ROUTES[route], each)]:
            answer = stranger.call(method.upper(), filled(route, reference), None if method == "get" else {})
            unknown = stranger.call(method.upper(), filled(route, "999999"), None if method == "get" else {})
            expected = 404 if who == "eve" or method == "get" else 401
            if who == "nobody" and not ROUTES[route].anonymous_may_read:
                expected = 401
            assert answer.status == expected, (method, route, answer.body)
            assert (answer.status, answer.body) == (unknown.status, unknown.body), (method, route)
            tried += 1
    assert tried > 60
    assert people.ada.get(f"/projects/{project['id']}").status == 200


@pytest.mark.parametrize("who", ["eve", "nobody"])
def test_a_private_group_is_unknown_on_every_route(people: People, who: str) -> None:
    stranger: ApiClient = getattr(people, who)
    group = people.ada.ok("POST", "/groups", {"name": "Secret", "path": f"s{secrets.token_hex(4)}"}).body
    for route in IN_GROUPS:
        for method in [each for each in METHODS if hasattr(ROUTES[route], each)]:
            answer = stranger.call(
                method.upper(), filled(route, str(group["id"])), None if method == "get" else {}
            )
            assert answer.status in ((404,) if who == "eve" else (404, 401)), (method, route, answer.body)
    assert people.eve.get(f"/namespaces/{group['path']}").status == 404
    assert people.eve.get(f"/namespaces/{group['path']}/exists")["exists"] is False
    assert group["id"] not in {each["id"] for each in people.eve.get("/groups?per_page=100").body}


def test_what_belongs_to_one_project_is_not_reached_through_another(
    people: People, project: dict[str, Any]
) -> None:
    own = new_project(people.eve)
    theirs, mine = f"/projects/{project['id']}", f"/projects/{own['id']}"
    key = people.ada.ok(
        "POST", f"{theirs}/deploy_keys", {"title": "k", "key": ADA_KEY, "can_push": True}
    ).body
    token = people.ada.ok(
        "POST", f"{theirs}/deploy_tokens", {"name": "t", "scopes": ["read_repository"]}
    ).body
    for path in (f"{mine}/deploy_keys/{key['id']}", f"{mine}/deploy_tokens/{token['id']}"):
        assert people.eve.get(path).status == 404
        assert people.eve.delete(path).status == 404
    assert people.eve.put(f"{mine}/deploy_keys/{key['id']}", {"can_push": False}).status == 404
    commit = people.ada.get(f"{theirs}/repository/branches/main")["commit"]["id"]
    assert people.eve.get(f"{mine}/repository/commits/{commit}").status == 404
    people.ada.ok("DELETE", f"{theirs}/deploy_keys/{key['id']}")


def test_nobody_writes_into_a_foreign_namespace(people: People) -> None:
    group = people.ada.ok("POST", "/groups", {"name": "Closed", "path": f"c{secrets.token_hex(4)}"}).body
    own = new_project(people.eve)
    assert people.eve.post("/projects", {"name": "x", "namespace_id": group["id"]}).status == 404
    assert people.eve.post("/groups", {"name": "x", "path": "x", "parent_id": group["id"]}).status == 404
    assert people.eve.put(f"/projects/{own['id']}/transfer", {"namespace": group["path"]}).status == 404
    assert people.eve.post(f"/projects/{own['id']}/fork", {"namespace_path": group["path"]}).status == 404
    assert people.eve.put(f"/projects/{own['id']}/transfer", {"namespace": "ada"}).status in (403, 404)
    assert people.eve.post(f"/projects/user/{people.ids['ada']}", {"name": "gift"}).status == 403
    assert people.eve.post(f"/users/{people.ids['ada']}/keys", {"title": "t", "key": ADA_KEY}).status == 403
    tokens = f"/users/{people.ids['ada']}/personal_access_tokens"
    assert people.eve.post(tokens, {"name": "t", "scopes": ["api"]}).status == 403


def test_somebody_elses_tokens_are_unknown(people: People) -> None:
    own = people.ada.get("/personal_access_tokens/self").body
    assert people.eve.get(f"/personal_access_tokens/{own['id']}").status == 404
    assert people.eve.delete(f"/personal_access_tokens/{own['id']}").status == 404
    assert people.eve.post(f"/personal_access_tokens/{own['id']}/rotate").status == 404
    assert people.eve.get(f"/personal_access_tokens?user_id={people.ids['ada']}").body == []
    assert people.ada.get("/user").status == 200


# Junk

JUNK: list[Any] = [
    *("", "x", "main", "é", "a" * 300, "\t", "1,2", "9" * 40, "2026-13-45", "[", "\\", "*", "☃", "1e5", "-1"),
    *(None, 0, -1, 2**63, 10**17, 1.5, True, [], {}, [1, "a", {}], {"k": "v"}, ["api"], 30, 50),
]
NAMES = [
    "name",
    "path",
    "key",
    "title",
    "scopes",
    "visibility",
    "default_branch",
    "namespace_id",
    "parent_id",
    "user_id",
    "username",
    "access_level",
    "expires_at",
    "branch",
    "ref",
    "tag_name",
    "message",
    "push_access_level",
    "allowed_to_push",
    "search",
    "order_by",
    "sort",
    "page",
    "per_page",
    "pagination",
    "id_after",
    "min_access_level",
    "topics",
    "issues_enabled",
    "issues_access_level",
    "archived",
    "description",
    "email",
    "password",
    "can_push",
    "user_ids",
    "query",
    "active",
    "state",
    "revoked",
    "created_after",
    "ref_name",
    "merge_method",
    "ci_config_path",
    "initialize_with_readme",
    "skip_groups",
    "topic",
    "bio",
]
SEGMENTS = ("1", "main", "v1", "%2e%2e", "*", "9" * 17, "%ff", "é", "-", "%5c", "%27")


@pytest.mark.parametrize("seed", [1, 2])
def test_junk_is_never_a_server_error(people: People, seed: int) -> None:
    chance = random.Random(seed)
    project = new_project(people.ada)
    answers = Counter[int]()
    for route, endpoint in ROUTES.items():
        for method in [each for each in METHODS if hasattr(endpoint, each)]:
            if method != "get" and ("personal_access" in route or route.startswith("user")):
                continue  # the people of the other tests stay as they are
            path = re.sub(r"<reference:project>", str(project["id"]), route)
            path = re.sub(r"<\w+:\w+>", lambda _: quote(chance.choice(SEGMENTS), safe="%*"), path)
            sent = {name: chance.choice(JUNK) for name in chance.sample(NAMES, chance.randint(0, 30))}
            if method == "get":
                answer = people.ada.get(f"/{path}?{urlencode(sent)}")
            else:
                answer = people.ada.call(method.upper(), f"/{path}", sent)
            answers[answer.status] += 1
            assert answer.status < 500, (method, path, sent, answer.body)
    assert answers[400] > 5
    assert answers.total() > 80
