#!/usr/bin/env python3
"""Holds a rendered chart against the manifests of an overlay: same.py CHART.yaml OVERLAY.yaml

They may differ in the release's label, the namespace, the image's tag, and how a changed configuration rolls the pods over.
Prints what else does, and fails then. Needs PyYAML.
"""
import re
import sys

import yaml

MAY_DIFFER = re.compile(
    r"^ConfigMap\.data\.|\.app\.kubernetes\.io/(instance|name)$|\.metadata\.namespace$|^ConfigMap\.metadata\.name$"
    r"|\.annotations\.checksum/config$|\.image$|\[config\]\.configMap\.name$")


def objects(path):
    with open(path) as file:
        return {one["kind"]: one for one in yaml.safe_load_all(file) if one and one["kind"] != "Namespace"}


def leaves(value, path):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            name = inner.get("name", number) if isinstance(inner, dict) else number
            yield from leaves(inner, f"{path}[{name}]")
    else:
        yield path, value


def main():
    chart, overlay = (dict(pair for kind, one in objects(path).items() for pair in leaves(one, kind)) for path in sys.argv[1:3])
    differ = [path for path in sorted(chart.keys() | overlay.keys())
              if chart.get(path) != overlay.get(path) and not MAY_DIFFER.search(path)]
    for path in differ:
        print(f"{path}: the chart has {chart.get(path)!r}, the overlay {overlay.get(path)!r}", file=sys.stderr)
    if differ:
        sys.exit(1)
    print(f"chart and overlay say the same in {len(chart.keys() & overlay.keys())} places")


main()
