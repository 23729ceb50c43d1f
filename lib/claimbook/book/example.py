"""One claim from row to verdict, with the numbers as they are stored: the example of the page on judging."""

from claimbook import paths
from claimbook.book.drawing import drawing
from claimbook.book.scoreboard import Standing, chapters, with_interval
from claimbook.claims import words
from claimbook.claims.criteria import DUE, Part, accepted
from claimbook.display.tables import sample
from claimbook.provenance import seals

CHAPTER, CLAIM, PART, OTHER = "streaming_llm", "C3", "window_collapses", "at_the_eviction"

STEPS = """\
Take [C3](#streaming_llm.C3) of *StreamingLLM*: window attention collapses as soon as the very first tokens leave the
cache. The ledger decides it by two **parts**. We follow the first, `window_collapses`.

1. **A row** is one document, read twice by one model. With the *window*, the cache holds the last 256 tokens. With
   *streaming*, it holds the first 4 and the last 252. In the first row the mean loss is {window:.2f} nats with the
   window and {streaming:.2f} with streaming.
2. **A ratio.** We subtract the two losses in each document. The exponential of the mean difference is a ratio of
   perplexities. At 1.0 the window costs nothing.
3. **An interval.** Other documents would give another ratio. The 95 % interval says how far it may move. Ours:
   {ratio}.
4. **The accepted region** is {region}. The claim is made for all models, so it has to hold for the weakest in the
   paper's tables. That is Falcon-7B, with 17.90 / 12.12 = 1.48. We ask for half of this effect. Half of a ratio is its
   square root, 1.22.
5. **The state.** A part is met when its interval lies wholly in the region. This part is {state}.
6. **The controls** test the criterion itself. {controls}
7. **The second part**, `at_the_eviction`, asks that the loss rises by {other_region} nats when the first token is
   evicted. Ours: {other}. This part is {other_state}.
8. **The verdict.** With every part met, a claim is reproduced. C3 is {verdict}.
"""
KNOWN = (
    "The paper's own figures, {published}, must lie inside. The **null**, what we would see if the claim were false, "
    "is {null} and must lie outside. So they do, or the ledger would not load."
)
STILL_DUE = "C3's are still `due`: they are not yet written in the ledger."


def worked_example() -> str:
    """The example, a drawing and its text in Markdown; a line in its place as long as the claim was not run."""
    standings = {one.anchor: one for chapter in chapters() for one in chapter.standings}
    standing = standings.get(f"{CHAPTER}.{CLAIM}")
    rows = paths.sweep(CHAPTER, "documents")
    if standing is None or not standing.entry.get("parts", {}).get(PART) or not rows.exists():
        return f"The example, {CLAIM} of `{CHAPTER}`, was not run yet."
    rows = seals.read(rows)["curves"]["documents"]
    losses = [(row["loss"]["0"], row["loss"]["4"]) for row in rows]
    drawn = drawing(losses, standing.claim.part(PART), standing)
    return f"```{{raw}} html\n{drawn}\n```\n\n{_steps(losses[0], standing)}"


def _steps(first: tuple[float, float], standing: Standing) -> str:
    part, other = (standing.claim.part(name) for name in (PART, OTHER))
    found, its_other = (standing.entry["parts"][name] for name in (PART, OTHER))
    return STEPS.format(
        window=first[0],
        streaming=first[1],
        ratio=_estimate(found),
        region=accepted(part),
        state=words.word(found["state"]),
        controls=_controls(part),
        other=_estimate(its_other),
        other_region=accepted(other),
        other_state=words.word(its_other["state"]),
        verdict=standing.spoken,
    )


def _estimate(found: dict) -> str:
    return f"{with_interval(found['estimate'], found['interval'])}, {sample(found)}"


def _controls(part: Part) -> str:
    if part.controls == DUE:
        return STILL_DUE
    published, null = (" and ".join(map(str, figures)) for figures in (part.controls.published, part.controls.null))
    return KNOWN.format(published=published, null=null)
