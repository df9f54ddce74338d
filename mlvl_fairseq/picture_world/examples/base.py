"""What an example is, what a task of examples is, and the shelves that examples take their pictures from."""

import random
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Callable, ClassVar, Dict, Iterator, List, Optional, Sequence, Tuple, Type, TypeVar

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.picture_world.examples.facts import FALSE, TRUE, UNKNOWN, Claim, Shown, shown
from mlvl_fairseq.picture_world.languages.base import Language
from mlvl_fairseq.picture_world.world import Picture
from mlvl_fairseq.registry import registering

Row = Dict[str, Any]
One = TypeVar("One")


@dataclass(frozen=True)
class Example:
    """A text about pictures, before it is said in a language.

    Attributes:
        form: what kind of text it is, by name.
        say: gives the text in a language.
        pictures: names of the pictures, in the order in which the text means them.
        answer: the label, or the English answer.
    """

    form: str
    say: Callable[[Language], str]
    pictures: Tuple[str, ...]
    answer: str


class ExampleTask(ABC):
    """Draws examples of one task, and says what a file of them holds.

    Attributes:
        name: of the folder; `register_example_task` sets it.
        train_suffix, suffix: of the file of English training examples, and of all others.
    """

    name: ClassVar[str]
    train_suffix: ClassVar[str]
    suffix: ClassVar[str]

    @abstractmethod
    def draw(self, shelf: "Shelf", number: int) -> List[Example]:
        """About `number` examples, at least one of each form of text and label; labels are balanced.

        Raises:
            UserError: too few pictures.
        """

    @abstractmethod
    def train_file(self, examples: Sequence[Example], language: Language) -> str:
        """A file of training examples, in the format that is published for English."""

    @abstractmethod
    def file(self, examples: Sequence[Example], language: Language, name: str) -> str:
        """Any other file, in the format that is published for other languages; ids begin with `name`."""


EXAMPLE_TASKS: Dict[str, ExampleTask] = {}


def register_example_task(name: str) -> Callable[[Type[ExampleTask]], Type[ExampleTask]]:
    """Class decorator: the task's examples are written to a folder of this name."""
    return registering(EXAMPLE_TASKS, "a task of examples", name, instance=True, name=name)


class Shelf:
    """The pictures of a split, by what they show, and the random stream that chooses among them.

    Args:
        pictures: of a split. rng: of one task and split.
    """

    def __init__(self, pictures: Sequence[Picture], rng: random.Random):
        self.rng, self.scenes = rng, {picture.name: shown(picture.scene) for picture in pictures}
        self.names = list(self.scenes)
        self.by_kind: Dict[str, List[str]] = {}
        for name, there in self.scenes.items():
            for kind in there:
                self.by_kind.setdefault(kind, []).append(name)

    def __getitem__(self, name: str) -> Shown:
        return self.scenes[name]

    def turns(self) -> Iterator[Tuple[str, Shown]]:
        """All pictures in random order, again and again."""
        while True:
            for name in self.rng.sample(self.names, len(self.names)):
                yield name, self.scenes[name]

    def denying(self, claim: Claim, wanted: Optional[str]) -> Optional[str]:
        """A picture that contradicts a claim in what is wanted alone, with None in anything, if there is one."""

        def fits(there: Shown) -> bool:
            label, wrong = claim.judge(there)
            return label == FALSE and wanted in (None, *wrong) and (wanted is None or len(wrong) == 1)

        return self._first(self.by_kind.get(claim.a.kind, ()), fits)

    def silent(self, claim: Claim, about: Sequence[str]) -> Optional[str]:
        """A picture that neither confirms nor contradicts a claim, and shows things of the kinds of `about`."""
        names = self.by_kind.get(about[0], ()) if about else self.names
        return self._first(names, lambda there: claim.judge(there)[0] == UNKNOWN)

    def showing(self, claim: Claim, besides: str) -> Optional[str]:
        """A picture of which a claim is true, another one than `besides`."""
        names = [name for name in self.by_kind.get(claim.a.kind, ()) if name != besides]
        return self._first(names, lambda there: claim.judge(there)[0] == TRUE)

    def _first(self, names: Sequence[str], fits: Callable[[Shown], bool]) -> Optional[str]:
        """The first that fits, from a random one on."""
        start = self.rng.randrange(len(names)) if names else 0
        for place in range(len(names)):
            name = names[(start + place) % len(names)]
            if fits(self.scenes[name]):
                return name
        return None


def in_turn(choices: Sequence[One]) -> Iterator[One]:
    """Choices again and again."""
    while True:
        yield from choices


def too_few(what: str) -> UserError:
    return UserError(f"too few pictures for {what}: ask for more, or for no --examples")
