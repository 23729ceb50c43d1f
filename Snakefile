# The grid (chapter x tier x models x seed) and the stored runs, on one machine or a cluster:
#
#     snakemake --cores 2                                            what is stale or missing, here
#     snakemake --config only=runs models="a b" seeds="0 1 2"        a grid, spaces between its values
#     snakemake --profile lib/claimbook/runs/profiles/slurm               the same jobs on Slurm
#
# Targets are result files under _runs/; only `claimbook accept` and `claimbook sweeps` move anything into data/.
# claimbook/runs/grid.py says what is wanted, by fingerprint; times of files play no part.

from claimbook.provenance import machine
from claimbook.runs import grid

PLAN = grid.plan(config)


rule all:
    default_target: True
    input:
        [target for target, job in PLAN.items() if job.wanted] or workflow.snakefile,  # there: nothing to be done


rule make:
    output:
        "_runs/grid/{chapter}/{name}.json",
    wildcard_constraints:
        chapter=r"[a-z0-9_]+",
        name=r"[^/]+",
    params:
        command=lambda wildcards, output: PLAN[output[0]].command,
    benchmark:
        "_runs/benchmarks/{chapter}/{name}.tsv"
    threads: machine.threads()
    retries: 2
    resources:
        mem_mb=8000,
        runtime=240,
    shell:
        "{params.command}"
