"""Write the task files of a zoo: toy skills, each with a validation and a test pool.

    python scripts/make_zoo_data.py            # writes experiments/quickstart/tasks/
    python scripts/make_zoo_data.py natural    # writes experiments/natural/tasks/

The quickstart's skills are two-digit addition, kanji numerals to and from digits, and reversal of a string; the natural
zoo's are subtraction, sorting letters, counting a letter, shifting a word along the alphabet, and Roman numerals to and
from digits. Which pool an item belongs to depends only on a digest of its content, so `train_zoo.py`, which draws from
the "train" pool with the same functions, can never see a validation or test item. Mirror images (12+34 and 34+12, a
word and its reverse, both directions of one number) share a content key and therefore a pool.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
POOLS = ("validation", "test")
ITEMS_PER_POOL = 600
SEED = 20240607
N_CHOICES = 5
HELD_OUT_PERCENT = 12  # of all content keys, for each of validation and test
ALPHABET = "abcdefghijklmnopqrstuvwxyz"
WORD_LENGTHS = (5, 6, 7, 8)
KANJI_DIGITS = "〇一二三四五六七八九"
FEW_LETTERS = ALPHABET[:12]  # words to sort and to count in
LARGEST_TERM = 149  # of a subtraction
LARGEST_SHIFT = 3
LARGEST_ROMAN = 3999
ROMAN_UNITS = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl")),
    *((10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)


@dataclass(frozen=True)
class Item:
    """One question: `prompt` + `target` is the text a model is trained on; `key` names the content (order-free)."""

    prompt: str
    target: str
    key: str


@dataclass(frozen=True)
class Skill:
    """A skill, the task that measures it and how one random item is drawn from all pools alike."""

    name: str
    task: str
    draw: Callable[[random.Random], Item]
    multiple_choice: bool = False


@dataclass(frozen=True)
class Zoo:
    """A family of small models and the tasks that measure them.

    Attributes:
        name: what the scripts know it by, and its folder below experiments/.
        title: how texts name it.
        characters: that its texts are made of.
        skills: by name.
    """

    name: str
    title: str
    characters: str
    skills: Mapping[str, Skill]

    @property
    def folder(self) -> Path:
        """Where its search file, tasks and models are."""
        return EXPERIMENTS / self.name

    @property
    def tasks(self) -> Path:
        """Where its task files are."""
        return self.folder / "tasks"


def draw_add(rng: random.Random) -> Item:
    """Return one sum of two two-digit numbers."""
    a, b = rng.randrange(10, 100), rng.randrange(10, 100)
    return Item(f"{a}+{b}=", str(a + b), f"{min(a, b)}+{max(a, b)}")


def to_kanji(number: int) -> str:
    """Return 1..99999 as a kanji numeral: 14096 is 一万四千九十六 (no 一 before 十, 百 and 千)."""
    text = ""
    for unit, size in (("万", 10_000), ("千", 1000), ("百", 100), ("十", 10), ("", 1)):
        digit = number // size % 10
        if digit:
            text += ("" if digit == 1 and unit in ("千", "百", "十") else KANJI_DIGITS[digit]) + unit
    return text


def draw_kanji(rng: random.Random) -> Item:
    """Return one number to read or to write in kanji; either direction is equally likely."""
    number = rng.randrange(1, 100_000)
    digits, kanji = str(number), to_kanji(number)
    prompt, target = (kanji, digits) if rng.randrange(2) else (digits, kanji)
    return Item(f"{prompt}=", target, digits)


def draw_reverse(rng: random.Random) -> Item:
    """Return one word of random letters to write backwards."""
    word = "".join(rng.choice(ALPHABET) for _ in range(rng.choice(WORD_LENGTHS)))
    return Item(f"{word}=", word[::-1], min(word, word[::-1]))


def draw_sub(rng: random.Random) -> Item:
    """Return one difference of two numbers that is not negative."""
    low, high = sorted((rng.randrange(LARGEST_TERM + 1), rng.randrange(LARGEST_TERM + 1)))
    return Item(f"{high}-{low}=", str(high - low), f"{high}-{low}")


def draw_sort(rng: random.Random) -> Item:
    """Return one word of few letters to sort; words of the same letters share a key."""
    word = "".join(rng.choice(FEW_LETTERS) for _ in range(rng.choice((5, 6, 7))))
    return Item(f"{word}>", "".join(sorted(word)), "".join(sorted(word)))


def draw_count(rng: random.Random) -> Item:
    """Return one word of two letters, one of which is to be counted."""
    pair = rng.sample(FEW_LETTERS, 2)
    word = "".join(rng.choice(pair) for _ in range(rng.choice((5, 6, 7, 8))))
    return Item(f"{word}#{pair[0]}=", str(word.count(pair[0])), f"{word}#{pair[0]}")


def draw_shift(rng: random.Random) -> Item:
    """Return one word to move along the alphabet, which starts again after z."""
    word = "".join(rng.choice(ALPHABET) for _ in range(4))
    by = rng.randrange(1, LARGEST_SHIFT + 1)
    shifted = "".join(ALPHABET[(ALPHABET.index(letter) + by) % len(ALPHABET)] for letter in word)
    return Item(f"{word}+{by}=", shifted, f"{word}+{by}")


def to_roman(number: int) -> str:
    """Return 1..3999 as a Roman numeral in small letters."""
    text = ""
    for size, unit in ROMAN_UNITS:
        text += unit * (number // size)
        number %= size
    return text


def draw_roman(rng: random.Random) -> Item:
    """Return one number to read or to write in Roman numerals; either direction is equally likely."""
    number = rng.randrange(1, LARGEST_ROMAN + 1)
    roman, digits = to_roman(number), str(number)
    prompt, target = (roman, digits) if rng.randrange(2) else (digits, roman)
    return Item(f"{prompt}=", target, digits)


def by_name(*skills: Skill) -> dict[str, Skill]:
    """Return skills by their names."""
    return {skill.name: skill for skill in skills}


ZOOS = {
    zoo.name: zoo
    for zoo in (
        Zoo(
            "quickstart",
            "the quickstart",
            "0123456789+=" + KANJI_DIGITS[1:] + "十百千万" + ALPHABET,
            by_name(
                Skill("add", "zoo_add", draw_add, multiple_choice=True),
                Skill("kanji", "zoo_kanji", draw_kanji),
                Skill("reverse", "zoo_reverse", draw_reverse),
            ),
        ),
        Zoo(
            "natural",
            "the natural zoo",
            "0123456789+-=>#" + ALPHABET,
            by_name(
                Skill("sub", "natural_sub", draw_sub),
                Skill("sort", "natural_sort", draw_sort),
                Skill("count", "natural_count", draw_count),
                Skill("shift", "natural_shift", draw_shift),
                Skill("roman", "natural_roman", draw_roman),
            ),
        ),
    )
}


def pool_of(skill: Skill, item: Item) -> str:
    """Return the only pool an item may be used in: "train", "validation" or "test"."""
    digest = hashlib.sha256(f"{skill.task}/{item.key}".encode()).digest()
    percent = int.from_bytes(digest[:8], "big") % 100
    if percent < HELD_OUT_PERCENT:
        return "validation"
    return "test" if percent < 2 * HELD_OUT_PERCENT else "train"


def draw_from(skill: Skill, pool: str, rng: random.Random) -> Item:
    """Return one random item of a skill that belongs to `pool`."""
    while True:
        item = skill.draw(rng)
        if pool_of(skill, item) == pool:
            return item


def held_out_items(skill: Skill, pool: str) -> list[Item]:
    """Return the `ITEMS_PER_POOL` items of a held-out pool, with distinct prompts, in file order."""
    rng = random.Random(f"{SEED}/{skill.task}/{pool}")
    items: dict[str, Item] = {}
    while len(items) < ITEMS_PER_POOL:
        item = draw_from(skill, pool, rng)
        items.setdefault(item.prompt, item)
    return list(items.values())


def choices_for(target: str, rng: random.Random) -> list[str]:
    """Return the sum and near misses of the same length (a digit off, a carry lost or added), shuffled."""
    misses = [str(int(target) + offset) for offset in (-20, -11, -10, -9, -2, -1, 1, 2, 9, 10, 11, 20)]
    choices = [target, *rng.sample([miss for miss in misses if len(miss) == len(target)], N_CHOICES - 1)]
    rng.shuffle(choices)
    return choices


def rows_of(skill: Skill, pool: str) -> list[dict]:
    """Return the rows of one data file: prompt and target, or prompt, choices and the index of the answer."""
    items = held_out_items(skill, pool)
    if not skill.multiple_choice:
        return [{"prompt": item.prompt, "target": item.target} for item in items]
    rng = random.Random(f"{SEED}/{skill.task}/{pool}/choices")
    rows = []
    for item in items:
        choices = choices_for(item.target, rng)
        rows.append({"prompt": item.prompt, "choices": choices, "answer": choices.index(item.target)})
    return rows


def task_yaml(skill: Skill) -> str:
    """Return the lm-eval task file of a skill; its data files are named relative to the file's own folder."""
    if skill.multiple_choice:
        how = "output_type: multiple_choice\ndoc_to_choice: choices\ndoc_to_target: answer\n"
    else:
        how = "output_type: loglikelihood\ndoc_to_target: target\n"
    return (
        f"task: {skill.task}\n"
        "dataset_path: json\n"
        "dataset_kwargs:\n"
        "  data_files:\n"
        f"    validation: data/{skill.task}_validation.jsonl\n"
        f"    test: data/{skill.task}_test.jsonl\n"
        "validation_split: validation\n"
        "test_split: test\n"
        "doc_to_text: prompt\n"
        f"{how}"
        'target_delimiter: ""\n'
        "metric_list:\n"
        "  - {metric: acc, aggregation: mean, higher_is_better: true}\n"
        "metadata: {version: 1.0}\n"
    )


def build_files(zoo: Zoo) -> dict[str, str]:
    """Return the text of every generated file of a zoo, by its path below the tasks folder."""
    files = {}
    for skill in zoo.skills.values():
        files[f"{skill.task}.yaml"] = task_yaml(skill)
        for pool in POOLS:
            lines = [json.dumps(row, ensure_ascii=False) for row in rows_of(skill, pool)]
            files[f"data/{skill.task}_{pool}.jsonl"] = "\n".join(lines) + "\n"
    return files


def main() -> None:
    """Write the generated files."""
    parser = argparse.ArgumentParser(description="Write a zoo's task files.")
    parser.add_argument("zoo", nargs="?", choices=ZOOS, default="quickstart")
    parser.add_argument("--out", type=Path, help="tasks folder; by default the zoo's own")
    options = parser.parse_args()
    zoo = ZOOS[options.zoo]
    for name, text in build_files(zoo).items():
        path = (options.out or zoo.tasks) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        print(f"{path}: {len(text.encode())} bytes")


if __name__ == "__main__":
    main()
