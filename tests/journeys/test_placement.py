"""Placement labels: set by administrators, by API and command line, and shown to everybody who may look."""

import json
from dataclasses import replace

from support.node import Node
from support.people import Person, project_id


def test_an_administrator_says_which_nodes_serve_a_project(node: Node, ada: Person) -> None:
    path = ada.project("placed")
    address = f"projects/{project_id(path)}"
    assert ada.must("GET", address)["repository_storage"] == "default"
    assert ada.api("PUT", address, {"repository_storage": "fast"}).status == 403
    root = replace(ada, username="root", token=node.token(name="placement"))
    assert root.must("PUT", address, {"repository_storage": "fast"})["repository_storage"] == "fast"
    assert ada.must("GET", address)["repository_storage"] == "fast"
    refused = root.api("PUT", address, {"repository_storage": "Not A Label"})
    assert refused.status == 400
    assert "no label" in json.dumps(refused.body)
    listed = {each["path"]: each["repository_storage"] for each in ada.must("GET", "projects?owned=true")}
    assert listed["placed"] == "fast"
    assert root.must("PUT", address, {"repository_storage": "default"})["repository_storage"] == "default"


def test_the_same_by_a_command(node: Node, ada: Person) -> None:
    path = ada.project("placed-too")
    said = json.loads(node.run("project", "place", path, "slow", "--json").stdout)
    assert said["repository_storage"] == "slow"
    assert ada.must("GET", f"projects/{project_id(path)}")["repository_storage"] == "slow"
    assert node.run("project", "place", path, "a/b", check=False).returncode != 0
    assert node.run("project", "place", "ada/nothing", "slow", check=False).returncode != 0
    node.run("project", "place", path, "default")
    assert ada.must("GET", f"projects/{project_id(path)}")["repository_storage"] == "default"
