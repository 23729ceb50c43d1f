"""Whether a chapter's stored result is what the repository would give today; light, as `status` and `book` ask it."""

from claimbook import paths
from claimbook.provenance import fingerprints, seals
from claimbook.runs import stored_runs


def freshness(chapter: str) -> list[str]:
    """The reference result was made by the code, claims, assets, stored runs and versions of today.

    Stored runs of other chapters are found by their names in the code (`fingerprints.chapter_parts`): one that a run
    read, and that is not found so, is a finding too.
    """
    path = paths.result(chapter)
    if not path.exists():
        return [f"no reference run: `claimbook rerun {chapter}`, then `claimbook accept {chapter}`"]
    stored = seals.read(path)["provenance"]
    current = fingerprints.chapter_parts(chapter)
    found = [f"stored run {name} is {state}" for name, state in stored_runs.status(chapter).items() if state != "fresh"]
    found += [
        f"stored run {name} of another chapter is named by no whole string, so that a change of it would go unseen"
        for name in stored["stored"]
        if "/" in name and name not in current["sweeps"]
    ]
    if stored["code_hash"] != fingerprints.fingerprint(current):
        moved = ", ".join(fingerprints.changed(stored.get("parts", {}), current)) or "the stored hash"
        found.append(f"stale (changed: {moved}): `claimbook rerun {chapter}`, then `claimbook accept {chapter}`")
    return found
