"""The numbers of ``sif score`` in words, for the terminal and the page."""

from sif_offline.cli.score.rows import Row, Scores
from sif_offline.fingerprint.scoring import CombinedScore


def numbers_of(row: Row) -> list[str]:
    """One trigger's numbers, a line each."""
    s = row.score
    pooled = f" (pooled over {row.answers} answers)" if row.answers > 1 else ""
    lines = [
        f"{s.types} distinct types scored, {s.greens} green, share {s.green_share:.3f}{pooled}",
        f"exact p {s.pvalue:.2g}, displayed z {s.z:.2f}",
    ]
    if row.calibration is None:
        lines.append("calibrated z and tau: none, the trigger is not calibrated (sif calibrate)")
    else:
        c = row.calibration
        models = f"{c.n_models} null model{'s' if c.n_models > 1 else ''}"
        passed = "passed" if row.passes_tau else "not passed"
        lines += [
            f"calibrated z {row.calibrated_z:.2f} (mu {c.mu:.3f}, sigma {c.sigma:.3f} over {models})",
            f"tau {row.tau:.3f} {passed}; with {models} it is a 1/{c.n_models + 1} test",
        ]
    if row.random_keys is not None:
        r = row.random_keys
        lines.append(
            f"random-key p {r.pvalue:.2g}: {r.at_least} of {r.keys} fresh keys (V = {r.vocab_size}) reach "
            f"{s.greens} greens, mean {r.mean:.1f}, sd {r.sd:.1f}"
        )
    return lines


def together(scores: Scores) -> list[str]:
    """What all answers say, a line each; the wrong-key control last, where there is one."""
    lines = [_combined('against "independent text"', scores.independent)]
    if scores.unrelated is None:
        lines.append('against "unrelated model": not measured, the pack is not calibrated (sif calibrate)')
    else:
        nulls = scores.null_models
        models = f"{len(nulls)} null model{'s' if len(nulls) > 1 else ''}: {', '.join(nulls)}"
        lines.append(
            _combined(
                f'against "unrelated model" (rate <= {scores.unrelated.gamma0:.3f}; {models})',
                scores.unrelated,
            )
        )
    if scores.many and scores.unanswered:
        missing = scores.unanswered
        few = ", ".join(missing[:8]) + (", ..." if len(missing) > 8 else "")
        lines.append(f"no answer to {len(missing)} of {len(scores.pack.triggers)} triggers: {few}")
    if scores.wrong_keys is not None:
        w = scores.wrong_keys
        lines.append(
            f"control, {w.keys} wrong keys: green share {w.mean_share:.3f} on average, {w.max_share:.3f} at "
            f"most; wrong-key p {w.pvalue:.2g}"
        )
    return lines


def _combined(what: str, score: CombinedScore) -> str:
    return (
        f"{what}: exact pooled p {score.pvalue:.2g} ({score.greens} of {score.types} types green), "
        f"Stouffer z {score.stouffer_z:.2f} p {score.stouffer_pvalue:.2g}, Fisher p {score.fisher_pvalue:.2g}"
    )
