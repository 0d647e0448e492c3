#!/usr/bin/env python3
"""Cost of the zone, with few tokens and with many: CPU time per request over plain nginx.

    plain   proxy_pass that sends the JWT, set in the configuration
    memory  the module, the token cached in the worker's own memory, in front of the zone
    zone    the module, the token cached in the zone only (cache_size 0)

with 1, 2 and 4 workers, and with 1,000, 100,000 and 1,000,000 tokens, each of which stands for a JWT of about 1 KB of
its own and is asked for as often as any other: the worst that traffic can do. See harness.py for how it is measured.
The zone is filled through the gateway and survives the reloads that change the number of workers; their own memory is
filled anew each time. How many of the answers came from where they should is told as the hit ratio. `plain` sends one
string, hot in every cache of the processor.

    MODULE=path/to/module.so benches/zone.py [--rounds N] [--tokens N,N,…] [--chart FILE] [--json FILE]
    benches/zone.py --from FILE --chart FILE          draws what was measured before
"""

import argparse
import dataclasses
import html
import json
import math
import sys
from pathlib import Path

import harness
from harness import Difference, Load, Slice, median, ratio

VARIANTS = ("plain", "memory", "zone")
# The cache status of an answer from there.
FROM = {"memory": "HIT", "zone": "SHARED"}
# A worker's own memory is filled by asking for each token; with several workers, that many times as often as there are
# workers until nearly all have met nearly all. With more tokens than this it takes too long.
FILLED_BY_SEVERAL = 100_000


@dataclasses.dataclass
class Setting:
    """The measurements with this number of tokens and workers."""

    tokens: int
    workers: int
    rounds: list[dict[str, Slice]]
    # By variant.
    hits: dict[str, float]

    @property
    def variants(self) -> list[str]:
        return [variant for variant in VARIANTS if variant in self.rounds[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":", maxsplit=1)[0])
    parser.add_argument("--rounds", type=int, default=15, help="with one worker; with several, a third of them")
    parser.add_argument("--seconds", type=int, default=1, help="how long each variant is loaded in a round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--tokens", type=numbers, default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--workers", type=numbers, default=[1, 2, 4])
    parser.add_argument("--chart", type=Path, help="draw the cost with one worker against the number of tokens there")
    parser.add_argument("--json", type=Path, help="write every slice there")
    parser.add_argument("--from", type=Path, dest="source", help="measure nothing, take what --json has written")
    options = parser.parse_args()
    if options.source:
        settings = [read(one) for one in json.loads(options.source.read_text())]
    else:
        settings = measure_all(options)
        if options.json:
            options.json.write_text(json.dumps([dataclasses.asdict(one) for one in settings], indent=1) + "\n")
    report(settings)
    if options.chart:
        options.chart.write_text(chart(settings))


def numbers(text: str) -> list[int]:
    return sorted(int(number) for number in text.split(","))


def read(one: dict) -> Setting:
    rounds = [{name: Slice(**slice) for name, slice in each.items()} for each in one["rounds"]]
    return Setting(one["tokens"], one["workers"], rounds, one["hits"])


def measure_all(options: argparse.Namespace) -> list[Setting]:
    module = harness.require("wrk")
    settings = []
    with harness.site() as site:
        # Of a zone, 13 of 16 parts are for active verdicts, and one of these takes some 1,300 bytes.
        size = 16 + max(options.tokens) * 2 // 1024
        provider = f"introspection_endpoint {site.endpoint}; cache_ttl 10h; cache_zone tokens;"
        module_only = "empty_gif; add_header X-Cache $phantom_token_cache;"
        gateway = site.gateway(
            module,
            f"""
            phantom_token_zone tokens:{size}m;
            phantom_token_provider remembering {{ {provider} cache_size 16g; cache_entries 4000000; }}
            phantom_token_provider sharing     {{ {provider} cache_size 0; }}
            """,
            f"""
            location = /memory {{ phantom_token remembering; proxy_pass http://api/; }}
            location = /zone   {{ phantom_token sharing;     proxy_pass http://api/; }}
            location = /memory/alone {{ phantom_token remembering; {module_only} }}
            location = /zone/alone   {{ phantom_token sharing;     {module_only} }}
            """,
            # Each worker gets its part of the connections.
            listen="reuseport",
        )
        client = harness.Client(gateway, options.connections)
        known = 0
        for tokens in options.tokens:
            for workers in options.workers:
                gateway.reload(workers)
                client.pin()
                if known < tokens:
                    filled = client.each_once("/zone/alone", known, tokens)
                    print(
                        f"{tokens - known} tokens became known: {filled.worker_us:.1f} µs each on the worker, "
                        f"{filled.thread_us:.1f} on the thread, {filled.per_second:.0f}/s"
                    )
                    known = tokens
                settings.append(measure(gateway, client, tokens, workers, options))
                print(f"{tokens} tokens, {workers} workers: done", file=sys.stderr)
    return settings


def measure(
    gateway: harness.Nginx, client: harness.Client, tokens: int, workers: int, options: argparse.Namespace
) -> Setting:
    variants = list(VARIANTS)
    if workers > 1 and tokens > FILLED_BY_SEVERAL:
        variants.remove("memory")
    else:
        before = anonymous_memory(gateway)
        for _ in range(1 if workers == 1 else 3 * workers):
            client.each_once("/memory/alone", 0, tokens)
        if workers == 1 and tokens > 10_000:
            each = (anonymous_memory(gateway) - before) / tokens
            print(f"{tokens} tokens: {each:.0f} bytes each in the worker's own memory")

    def one(variant: str) -> Slice:
        return client.slice(Load(f"/{variant}", tokens), options.seconds)

    hits = {
        variant: client.said(Load(f"/{variant}/alone", tokens), 1).get(FROM[variant], 0)
        for variant in variants
        if variant != "plain"
    }
    for variant in variants:
        one(variant)
    count = options.rounds if workers == 1 else math.ceil(options.rounds / 3)
    return Setting(tokens, workers, harness.rounds(count, variants, one), hits)


def anonymous_memory(gateway: harness.Nginx) -> int:
    """The workers' own memory, in bytes."""
    lines = [
        line.split()
        for worker in gateway.workers()
        for line in Path(f"/proc/{worker}/status").read_text().splitlines()
        if line.startswith("RssAnon:")
    ]
    return sum(int(line[1]) * 1024 for line in lines)


def report(settings: list[Setting]) -> None:
    rows = []
    for one in settings:
        for variant in one.variants:
            plain = variant == "plain"
            rows.append(
                (
                    f"{one.tokens:,}",
                    str(one.workers),
                    variant,
                    f"{median(one.rounds, variant, 'cpu_us'):.2f}",
                    "" if plain else str(Difference.of(one.rounds, variant, "cpu_us")),
                    "" if plain else f"{ratio(one.rounds, variant, 'cpu_us'):.2f}",
                    f"{median(one.rounds, variant, 'per_second'):.0f}",
                    f"{median(one.rounds, variant, 'p99_ms'):.2f}",
                    "" if plain else f"{100 * one.hits[variant]:.2f} %",
                )
            )
    print("\nCPU µs per request; medians, and 95 % confidence of the differences to plain within a round\n")
    header = ("tokens", "workers", "", "CPU µs", "over plain", "ratio", "requests/s", "p99 ms", "hit ratio")
    print(harness.table(header, rows))
    alone = [one for one in settings if one.workers == 1]
    if len(alone) > 1:
        print()
        for variant in ("memory", "zone"):
            least, most = (median(one.rounds, variant, "cpu_us") for one in (alone[0], alone[-1]))
            # `plain` is the same for all numbers of tokens, and shows how the machine has changed meanwhile.
            drift = median(alone[-1].rounds, "plain", "cpu_us") / median(alone[0].rounds, "plain", "cpu_us")
            print(
                f"{variant}: a request with {alone[-1].tokens:,} tokens costs {most / least / drift:.2f} times what one "
                f"with {alone[0].tokens:,} does"
            )


def chart(settings: list[Setting]) -> str:
    """The cost over plain of one worker against the number of tokens, as SVG."""
    alone = [one for one in settings if one.workers == 1]
    colours = {"memory": "#1a7f5a", "zone": "#b3541e"}
    labels = {"memory": "worker's own memory", "zone": "zone only"}
    # Of what is written at a point: the upper line's above it, the lower one's below.
    lift = {"memory": 17, "zone": -8}
    found = {
        variant: [(one.tokens, Difference.of(one.rounds, variant, "cpu_us")) for one in alone] for variant in colours
    }
    width, height, left, right, top, bottom = 640, 360, 64, 150, 44, 52
    most = max(2.0, *(each.high for points in found.values() for _, each in points))
    least = min(0.0, *(each.low for points in found.values() for _, each in points))
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50) if (most - least) / step <= 8)
    least, most = math.floor(least / step) * step, math.ceil(most / step) * step
    first, last = (math.log10(alone[number].tokens) for number in (0, -1))

    def x(tokens: int) -> float:
        return left + (width - left - right) * (math.log10(tokens) - first) / max(last - first, 1e-9)

    def y(cost: float) -> float:
        return height - bottom - (height - top - bottom) * (cost - least) / (most - least)

    def text(at: tuple[float, float], what: str, anchor: str = "middle", colour: str = "#333", size: int = 12) -> str:
        return (
            f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{colour}" font-size="{size}">'
            f"{html.escape(what)}</text>"
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        'role="img" aria-label="CPU time of a hit over plain proxy_pass, against the number of tokens">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        text((left - 44, 24), "CPU µs per request over plain proxy_pass, one worker", "start", size=14),
    ]
    for number in range(round((most - least) / step) + 1):
        cost = least + number * step
        is_plain = abs(cost) < step / 10
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{y(cost):.1f}" y2="{y(cost):.1f}" '
            f'stroke="{"#333" if is_plain else "#ddd"}" stroke-width="{1.5 if is_plain else 1}"/>'
        )
        parts.append(text((left - 8, y(cost) + 4), f"{cost:g}", "end"))
    parts.append(text((width - right + 10, y(0) + 12), "plain", "start"))
    for one in alone:
        parts.append(text((x(one.tokens), height - bottom + 20), f"{one.tokens:,}"))
    parts.append(text(((left + width - right) / 2, height - 12), "tokens, each asked for as often as any other"))
    for variant, points in found.items():
        colour = colours[variant]
        line = " ".join(f"{x(tokens):.1f},{y(each.median):.1f}" for tokens, each in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for tokens, each in points:
            at = x(tokens)
            parts.append(
                f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y(each.low):.1f}" y2="{y(each.high):.1f}" stroke="{colour}"/>'
            )
            parts.append(f'<circle cx="{at:.1f}" cy="{y(each.median):.1f}" r="4" fill="{colour}"/>')
            # Before the last point, so as not to stand in the way of the label behind it.
            beside, anchor = (-7, "end") if tokens == alone[-1].tokens else (7, "start")
            parts.append(text((at + beside, y(each.median) + lift[variant]), f"{each.median:+.1f}", anchor, colour))
        parts.append(text((width - right + 10, y(points[-1][1].median) + 1), labels[variant], "start", colour))
    return "\n".join((*parts, "</svg>\n"))


if __name__ == "__main__":
    main()
