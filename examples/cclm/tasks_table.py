"""The second table of run_generated.sh: accuracy of the tasks that were learned in English, language by language.

`zero-shot`: no example in another language; `few-shot`: then fine-tuned on the few of that language. What texts tell
without pictures: `words alone` is a naive Bayes classifier of the words of the English training examples, on the
English test examples; `chance` is one of all labels or answers. The second table has the zero-shot accuracy of each
form of text. All in %. Languages of captions are those that pictures were told in; the others were in parallel text
only.

  python examples/cclm/tasks_table.py outputs/cclm_generated/tasks --examples outputs/cclm_generated/world/examples \
      --images outputs/cclm_generated/world/images --image-languages en,de --text-languages es,cs,ru --picture tasks.png
"""

import argparse
import csv
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from mlvl_fairseq.cli.common import language_order, run
from mlvl_fairseq.data.examples import Example, ExampleImages, read_examples
from mlvl_fairseq.data.examples.images import ExampleImageOptions
from mlvl_fairseq.errors import UserError
from mlvl_fairseq.evaluation.report.drawing import COLOURS, TEXT
from mlvl_fairseq.evaluation.report.tables import markdown_table
from mlvl_fairseq.files import atomic_path, read_text
from mlvl_fairseq.json_files import read_object

ZERO_SHOT, FEW_SHOT = "zero-shot", "few-shot"
Scores = Dict[str, Dict[str, float]]  # how -> language -> accuracy


class Baselines(NamedTuple):
    """Accuracy without pictures, in %."""

    words: float
    chance: float


def scores(folder: Path, languages: Sequence[str]) -> Scores:
    """Those of a task that is done."""

    def accuracy(part: str, lang: str) -> float:
        return float(read_object(folder / part / f"{lang}.test.json")["accuracy"])

    few = {lang: accuracy(f"few_{lang}", lang) for lang in languages if (folder / f"few_{lang}").exists()}
    return {ZERO_SHOT: {lang: accuracy("zero_shot", lang) for lang in languages}, **({FEW_SHOT: few} if few else {})}


def by_form(folder: Path, languages: Sequence[str]) -> Dict[str, Dict[str, float]]:
    """Form of text -> language -> zero-shot accuracy; an example's id ends with its form."""
    found: Dict[str, Dict[str, List[int]]] = defaultdict(lambda: defaultdict(list))
    for lang in languages:
        for row in csv.DictReader(read_text(folder / "zero_shot" / f"{lang}.test.said.csv").splitlines()):
            found[row["id"].rpartition("-")[2]][lang].append(int(row["correct"]))
    return {form: {lang: 100 * statistics.mean(right) for lang, right in rows.items()} for form, rows in found.items()}


def read(path: Path, images: Path) -> List[Example]:
    return read_examples(str(path), ExampleImages(ExampleImageOptions(image_root=str(images)))).examples


def right(example: Example) -> str:
    return example.label or example.answer


def without_pictures(train: Sequence[Example], test: Sequence[Example]) -> Baselines:
    """A naive Bayes classifier of words, with add-one smoothing, and chance."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB
    from sklearn.pipeline import make_pipeline

    classifier = make_pipeline(CountVectorizer(token_pattern=r"\w+"), MultinomialNB())
    classifier.fit([example.text for example in train], list(map(right, train)))
    hits = classifier.score([example.text for example in test], list(map(right, test)))
    return Baselines(100 * hits, 100 / len(classifier.classes_))


def table(tasks: Dict[str, Scores], without: Dict[str, Baselines], captions, texts) -> str:
    """Markdown: of each task the lines of its scores, then what there is without pictures."""
    columns: List[Tuple[str, Sequence[str]]] = [(lang, [lang]) for lang in (*captions, *texts)]
    columns += [("captions", captions), ("text only", texts)]
    rows = []
    for title, found in tasks.items():
        for how, values in found.items():
            means = [[values[lang] for lang in langs if lang in values] for _, langs in columns]
            whole = [len(mean) == len(langs) for mean, (_, langs) in zip(means, columns)]
            rows.append(
                [title, how, *(f"{statistics.mean(m):.1f}" if all_there else "" for m, all_there in zip(means, whole))]
            )
        for how, value in zip(("words alone", "chance"), without[title]):
            rows.append([title, how, f"{value:.1f}", *([""] * (len(columns) - 1))])
    return markdown_table(["task", "how", *(title for title, _ in columns)], rows)


def table_of_forms(tasks: Dict[str, Dict[str, Dict[str, float]]], languages: Sequence[str]) -> str:
    rows = [
        [title, form, *(f"{values[lang]:.1f}" for lang in languages)]
        for title, forms in tasks.items()
        for form, values in forms.items()
    ]
    return markdown_table(["task", "form", *languages], rows)


def draw(tasks: Dict[str, Scores], without: Dict[str, Baselines], languages: Sequence[str], path: Path) -> None:
    """Bars of every language and lines of what there is without pictures, a panel a task."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(tasks), figsize=(1.5 + 3 * len(tasks), 3.4), layout="constrained", sharey=True, squeeze=False
    )
    for ax, (title, found) in zip(axes[0], tasks.items()):
        for index, (how, values) in enumerate(found.items()):
            places = [languages.index(lang) + 0.4 * (index - (len(found) - 1) / 2) for lang in values]
            bars = ax.bar(places, list(values.values()), 0.38, color=COLOURS[index], label=how)
            ax.bar_label(bars, fmt="%.0f", fontsize=7, color=TEXT)
        ax.axhline(without[title].words, color=TEXT, linestyle="--", linewidth=1, label="words alone")
        ax.axhline(without[title].chance, color=TEXT, linestyle=":", linewidth=1, label="chance")
        ax.set_xticks(range(len(languages)), languages)
        ax.set_title(title, fontsize=10)
        ax.set_ylim(0, 100)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("accuracy, %")
    named = {label: handle for ax in axes[0] for handle, label in zip(*ax.get_legend_handles_labels())}
    figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=4, frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    pyplot.close(figure)


def main(argv: Optional[List[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", type=Path, help="folder with ARM/TASK")
    parser.add_argument("--examples", type=Path, required=True, metavar="DIR", help="of the world")
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="of the world")
    parser.add_argument("--image-languages", required=True, metavar="LIST", help="those that pictures were told in")
    parser.add_argument("--text-languages", required=True, metavar="LIST", help="those of parallel text only")
    parser.add_argument("--picture", type=Path, metavar="FILE.png", help="draw it, too")
    args = parser.parse_args(argv)
    captions, texts = language_order(args.image_languages), language_order(args.text_languages)
    languages = [*captions, *texts]
    done = sorted(found.parent for found in args.tasks.glob("*/*/done"))
    if not done:
        raise UserError(f"{args.tasks}: no fine-tuning is finished")
    several = len({folder.parent for folder in done}) > 1
    titles = {
        f"{one.name}, {one.parent.name}" if several else one.name: one for one in sorted(done, key=lambda d: d.name)
    }
    files = {one.name: args.examples / one.name for one in done}
    found = {
        name: without_pictures(
            *(read(next(folder.glob(f"{split}.en.json*")), args.images) for split in ("train", "test"))
        )
        for name, folder in files.items()
    }
    without = {title: found[folder.name] for title, folder in titles.items()}
    tasks = {title: scores(folder, languages) for title, folder in titles.items()}
    print(table(tasks, without, captions, texts), end="\n\n")
    print(table_of_forms({title: by_form(folder, languages) for title, folder in titles.items()}, languages))
    if args.picture:
        draw(tasks, without, languages, args.picture)


if __name__ == "__main__":
    run(main)
