#!/usr/bin/env python3
"""Ansible's inventory, from nodes.json beside it."""

import json
import pathlib

nodes = json.loads((pathlib.Path(__file__).parent / "nodes.json").read_text(encoding="utf-8"))
hosts = {
    name: {"ansible_host": node["public"], "ansible_user": "ec2-user", "node_ip": node["cards"]["ens5"]["own"]}
    for name, node in nodes.items()
}
print(json.dumps({
    "_meta": {"hostvars": hosts},
    "control_plane": {"hosts": ["control"]},
    "workers": {"hosts": sorted(name for name in nodes if name != "control")},
}))
