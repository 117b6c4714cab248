"""Write the table between the ``tails`` markers of docs/fit.md from results/fit/heavy-tails.json.

python lab/scripts/summarise_fit.py           # rewrite the page
python lab/scripts/summarise_fit.py --check   # exit 1 if the page does not agree with the file
"""

import json
import statistics
import sys

from _page import ROOT, rewrite, table


def rows(cases):
    """One row per target: ratios over the seeds, and how many verdicts were ``failed``."""
    for case in cases:
        fits = case["fits"]
        by_share = zip(case["error"], *(fit["ratios"] for fit in fits), strict=True)
        yield [
            f"{case['degrees']:g}",
            str(case["dim"]),
            *(
                f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f}; ± "
                f"{error:.2f})"
                for error, *found in by_share
            ),
            f"{sum(fit['failed'] for fit in fits)} of {len(fits)}",
        ]


def main() -> int:
    """Rewrite or check docs/fit.md."""
    stored = json.loads((ROOT / "results" / "fit" / "heavy-tails.json").read_text(encoding="utf-8"))
    shares = [f"beyond {100 * (1 - share):g} %" for share in stored["cases"][0]["shares"]]
    header = ["degrees of freedom", "dimensions", *shares, "failed"]
    return rewrite(
        "docs/fit.md", "tails", "\n".join(table(header, list(rows(stored["cases"])))).rstrip()
    )


if __name__ == "__main__":
    sys.exit(main())
