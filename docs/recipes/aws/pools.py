"""One PodPool for each subnet, from what `terraform output -json nodes` says that each node's cards have."""

import ipaddress
import json
import sys


def pools(nodes):
    """As a List that kubectl applies; the same input gives the same text."""
    found = {}
    for node, machine in sorted(nodes.items()):
        for card, has in sorted(machine["cards"].items()):
            if not has["pods"]:
                continue
            subnet = ipaddress.ip_network(has["subnet"])
            addresses = sorted(map(ipaddress.ip_address, has["pods"]))
            wrong = [str(address) for address in addresses if address not in subnet or str(address) == has["own"]]
            if wrong:
                raise SystemExit(f"{node} {card}: {', '.join(wrong)}: no secondary address of {subnet}")
            spec = found.setdefault(card, {
                "subnet": str(subnet),
                # The first address of every subnet of a VPC is its router.
                "gateway": str(subnet[1]),
                "networks": [f"kube-system/{card}"],
                "default": True,
                "nodeRanges": [],
            })
            spec["nodeRanges"].append({"nodes": [node], "ranges": [str(address) for address in addresses]})
    items = [
        {"apiVersion": "roadstead.dev/v1alpha1", "kind": "PodPool", "metadata": {"name": card}, "spec": spec}
        for card, spec in sorted(found.items())
    ]
    network = {
        "apiVersion": "roadstead.dev/v1alpha1", "kind": "ClusterNetwork", "metadata": {"name": "default"},
        # kubeadm's own range for Services.
        "spec": {"serviceCIDRs": ["10.96.0.0/12"]},
    }
    return {"apiVersion": "v1", "kind": "List", "items": [network] + items}


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as file:
        json.dump(pools(json.load(file)), sys.stdout, indent=2)
    print()
