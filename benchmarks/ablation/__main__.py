"""The paper's ablations, reproduced small, on rendered figures.

    python -m benchmarks.ablation                        # every variant and seed that isn't there yet, then the report
    python -m benchmarks.ablation --report-only          # the report of what is there
    python -m benchmarks.ablation --samples 200000 --figures 20000 --widths 32 80 160 --seeds 0 1 2 3 4 \\
        --test-figures 200 --work runs/ablation-large --output runs/ablation-large/results   # a machine with a GPU

Run it from the repository's root, with the extras `train` and `eval` installed. Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from stableviton_sdk.errors import TryOnError

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ablation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", help="of a b c d b-supervised c-supervised d-supervised; all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1], help="default 0 1")
    parser.add_argument("--samples", type=int, default=1600, help="training samples of a run (default 1600)")
    parser.add_argument("--second-stage", type=float, default=0.2, help="share of them in the second stage (0.2)")
    parser.add_argument("--batch-size", type=int, default=8, help="default 8")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="of the first stage (default 2e-3)")
    parser.add_argument("--second-learning-rate", type=float, default=1e-3, help="of the second (default 1e-3)")
    parser.add_argument("--figures", type=int, default=400, help="to train on, each in two garments (default 400)")
    parser.add_argument("--test-figures", type=int, default=24, help="to measure on, of either style (default 24)")
    parser.add_argument("--height", type=int, default=96, help="of the images, which are 3:4 (default 96)")
    parser.add_argument("--widths", nargs=3, type=int, default=[16, 32, 48], help="channels (default 16 32 48)")
    parser.add_argument("--steps", type=int, default=1, help="denoising steps (default 1)")
    parser.add_argument("--total-variation", type=float, default=0.01, help="weight of that loss (default 0.01)")
    parser.add_argument("--correspondence", type=float, default=0.03, help="weight of the supervision (default 0.03)")
    parser.add_argument("--work", type=Path, default=Path("runs/ablation"), help="for what can be made again")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="for numbers, table and plots")
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    parser.add_argument("--report-only", action="store_true", help="train and measure nothing")
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(given)
    try:
        if not options.report_only:
            _run(options, shlex.join(["python", "-m", "benchmarks.ablation", *given]))
        from .report import write_report

        write_report(options.output, options.work)
    except TryOnError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace, command: str) -> None:
    from stableviton_sdk.data.synthetic import one_thread

    from .experiment import Experiment, Protocol, chosen_variants

    one_thread()
    protocol = Protocol(
        samples=options.samples,
        second_stage=options.second_stage,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        second_learning_rate=options.second_learning_rate,
        figures=options.figures,
        test_figures=options.test_figures,
        height=options.height,
        width=options.height * 3 // 4,
        widths=options.widths,
        steps=options.steps,
        total_variation=options.total_variation,
        correspondence=options.correspondence,
    )
    variants = chosen_variants(options.variants)
    experiment = Experiment(
        protocol, options.work, options.output, cpu=options.cpu, log=lambda line: print(line, flush=True)
    )
    (options.output / "command.txt").write_text(command + "\n", encoding="utf-8")
    experiment.run_baselines()
    for seed in options.seeds:  # one seed of all variants is worth more than all seeds of one
        for variant in variants:
            experiment.run(variant, seed)


if __name__ == "__main__":
    raise SystemExit(main())
