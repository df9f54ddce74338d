"""`mlvl-evaluate`: scores of a model on data of any language, each with the signature to compare it by.

Any model, any language: one it never learned gives a zero-shot score. Several languages are evaluated in one process
that loads the model and encodes the images once; their scores are those of one command a language.
Prints the scores of one language as JSON, those of several as a table (--format); --json and --output-dir write JSON.
"""

import argparse
import inspect
import json
import os
import sys
from typing import Dict, List, Optional, Tuple

from mlvl_fairseq.cli.common import add_dataclass_options, options_from, run, tell_written

DEFAULT = "retrieval"


def overview() -> argparse.ArgumentParser:
    """The parser of ``mlvl-evaluate --help``."""
    from mlvl_fairseq.evaluation.evaluators import EVALUATORS

    kinds = {name: inspect.getdoc(evaluator).splitlines()[0] for name, evaluator in EVALUATORS.items()}
    width = max(map(len, kinds))
    listed = "\n".join(f"  {name:{width}}  {about}" for name, about in sorted(kinds.items()))
    hint = f"without a name: {DEFAULT}; mlvl-evaluate NAME --help shows its options"
    return argparse.ArgumentParser(
        usage="mlvl-evaluate [EVALUATOR] --checkpoint PATH OPTION...",
        description=f"{__doc__}\nevaluators:\n{listed}\n\n{hint}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def build_parser(name: str = DEFAULT) -> argparse.ArgumentParser:
    """The parser of one evaluator's options."""
    from mlvl_fairseq.cli.common import add_model_options
    from mlvl_fairseq.evaluation.evaluators import EVALUATORS

    evaluator = EVALUATORS[name]
    keys = "".join(f"\n  {key}: {about}" for key, about in evaluator.keys.items())
    parser = argparse.ArgumentParser(
        prog=f"{os.path.basename(sys.argv[0])} {name}",
        description=inspect.getdoc(evaluator) + (f"\n\nin signatures:{keys}" if keys else ""),
        epilog=f"examples:\n{evaluator.examples}" if evaluator.examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_model_options(parser)
    add_dataclass_options(parser, evaluator.Options)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--format",
        choices=("json", "table"),
        help="what is printed (default: json of one language, a table of several)",
    )
    output.add_argument("--json", metavar="OUT", help="write the scores here, too")
    output.add_argument(
        "--output-dir",
        metavar="DIR",
        help="write DIR/LANG.SPLIT.json for each language as it is finished, with the rank of every query beside it; "
        "finished ones are not repeated; mlvl-report reads such folders",
    )
    return parser


def main(argv: Optional[List[str]] = None) -> None:
    name, rest = chosen(sys.argv[1:] if argv is None else argv)
    args = build_parser(name).parse_args(rest)
    from mlvl_fairseq.cli.common import load_encoder
    from mlvl_fairseq.evaluation.evaluators import EVALUATORS
    from mlvl_fairseq.process.locks import writing

    evaluator = EVALUATORS[name](options_from(EVALUATORS[name].Options, args))
    data = evaluator.read()
    with writing(args.json):
        show(args, evaluator, evaluate(evaluator, load_encoder(args), data, args.output_dir))


def show(args: argparse.Namespace, evaluator, scores: Dict[str, Dict[str, object]]) -> None:
    """Print scores and write what was asked for."""
    from mlvl_fairseq.evaluation.evaluators.base import average_scores
    from mlvl_fairseq.files import write_json

    many = len(scores) > 1
    averaged = evaluator.averaged(list(scores))
    average = average_scores({lang: scores[lang] for lang in averaged}, evaluator.metrics)
    left_out = [lang for lang in scores if lang not in averaged]
    average_name = f"average without {', '.join(left_out)}" if left_out else "average"
    result = {"languages": scores, "average": average} if many else next(iter(scores.values()))
    shape = args.format or ("table" if many else "json")
    print(table(scores, average, evaluator.metrics, average_name) if shape == "table" else json.dumps(result, indent=1))
    if args.json:
        write_json(args.json, result)
    tell_written(args.json, args.output_dir and f"{args.output_dir}/*.{evaluator.options.split}.json")


def chosen(arguments: List[str]) -> Tuple[str, List[str]]:
    """The evaluator's name and what follows it; shows the list of evaluators where help is asked for without a name.

    Raises:
        UserError: there is no such evaluator.
    """
    from mlvl_fairseq.errors import UserError
    from mlvl_fairseq.evaluation.evaluators import EVALUATORS

    if arguments[:1] in (["-h"], ["--help"]):
        overview().parse_args(arguments)
    if not arguments or arguments[0].startswith("-"):
        return DEFAULT, arguments
    if arguments[0] not in EVALUATORS:
        raise UserError(f"no evaluator '{arguments[0]}'; there are: {', '.join(sorted(EVALUATORS))}")
    return arguments[0], arguments[1:]


def table(
    scores: Dict[str, Dict[str, object]],
    average: Dict[str, object],
    metrics: Tuple[str, ...],
    average_name: str = "average",
) -> str:
    """Markdown: a row for each language and their average, rounded as in reports, and the signature."""
    from mlvl_fairseq.evaluation.report.tables import markdown_table, number

    rows = {**scores, average_name: average} if len(scores) > 1 else scores
    cells = [[name, *(number(row[metric], 1) for metric in metrics)] for name, row in rows.items()]
    return f"{markdown_table(['', *metrics], cells)}\n\nsignature: {average['signature']}"


def evaluate(evaluator, encoder, data: Dict[str, object], output_dir: Optional[str]) -> Dict[str, Dict[str, object]]:
    """Language -> scores; kept in `output_dir`, if there is one."""
    from mlvl_fairseq.evaluation.evaluators.base import evaluate

    if not output_dir:
        return evaluate(evaluator, encoder, data)
    from mlvl_fairseq.runs.result_folder import scores_folder

    with scores_folder(output_dir, evaluator.name, encoder.fingerprint, evaluator.settings()) as results:
        return evaluate(evaluator, encoder, data, results)


def cli_main() -> None:
    run(main)


if __name__ == "__main__":
    cli_main()
