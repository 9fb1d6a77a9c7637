#!/usr/bin/env python3
"""Asks a Prometheus what the panels of a dashboard ask: panels.py DASHBOARD.json http://HOST:PORT [--wait SECONDS]

Prints how many have something to show, and which have not. Fails where one that always has something has nothing: all but those of
counters, which begin with their first event, and of what is optional.
"""
import argparse
import json
import sys
import time
import urllib.parse
import urllib.request

# What need not have happened yet.
MAY_BE_EMPTY = {"Retries", "Jobs given up", "Steps taken over", "Rows rejected", "Rows restated", "Doubtful loads",
                "Waiting messages and files"}


def panels(dashboard):
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            yield from panels({"panels": panel.get("panels", [])})
        else:
            yield panel


def has_something(url, expression):
    query = urllib.parse.urlencode({"query": expression.replace("$job", ".*")})
    with urllib.request.urlopen(f"{url}/api/v1/query?{query}", timeout=10) as answer:
        return any(one["value"][1] != "NaN" for one in json.load(answer)["data"]["result"])


def empty_panels(dashboard, url):
    return [panel["title"] for panel in panels(dashboard)
            if not any(has_something(url, target["expr"]) for target in panel["targets"])]


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("dashboard")
    arguments.add_argument("url")
    arguments.add_argument("--wait", type=float, default=0)
    given = arguments.parse_args()
    with open(given.dashboard) as file:
        dashboard = json.load(file)
    count = len(list(panels(dashboard)))
    end = time.monotonic() + given.wait
    while True:
        try:
            empty = empty_panels(dashboard, given.url)
        except OSError as error:
            if time.monotonic() > end:
                sys.exit(f"{given.url} does not answer: {error}")
            empty = None
        if empty is not None and (not set(empty) - MAY_BE_EMPTY or time.monotonic() > end):
            break
        time.sleep(1)
    words = f"; without: {', '.join(empty)}" if empty else ""
    print(f"{count - len(empty)} of {count} panels of {given.dashboard} have something to show{words}")
    missing = sorted(set(empty) - MAY_BE_EMPTY)
    if missing:
        sys.exit(f"these always have something, and have nothing: {', '.join(missing)}")


main()
