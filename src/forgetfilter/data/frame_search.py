"""Find the frames that answers share, by looking at some of them.

Taking words away where nothing is framed hurts more than leaving a frame where it is, and an expression can always be
given. So only what cannot well be anything else is a frame: it ends in a mark such as a colon or a quote, goes over no
end of a sentence, makes up a good part of what is judged, and around it the answers differ.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from math import ceil
from statistics import fmean

from .frames import LETTER, NUMBER, Frame, is_unspaced, units, without_numbers

# With this many answers a share of a twentieth is known to within a hundredth, in a second or so.
ANSWERS_SEEN = 2000
# Fewer answers may be alike by chance, and what less than a twentieth share hardly hinders learning the rest.
_FEWEST, _LEAST_SHARE = 20, 0.05
# What this share of answers has is a part of the frame. Broken answers, such as unfinished JSON, are rarer.
_FIXED = 0.95
# Where the first half of a frame is there, the second follows in this share of answers, and no more than the remaining
# share has another word in one place; else a word of the frame may be what differs.
_FOLLOWS = 0.9
# The default signal looks at 24 tokens, about as many units. Where two thirds of them are an answer's own words
# already, the frame does little harm.
_JUDGED, _LEAST_PART = 24, 1 / 3
# Where nine tenths of the contents are one and the same, next to nothing differs.
_MOST_ALIKE = 0.9
# How much is searched: characters of an answer, its end and its prompt, units of a beginning and after it, joints.
_HEAD, _TAIL, _PROMPT, _LONGEST, _BEHIND, _JOINTS = 2000, 200, 4000, 64, 128, 16
# How many characters of an answer's own words are searched for in the prompt, which names the choices.
_QUOTED = 40

_QUOTES, _ENDS_SENTENCE = "\"'“”„«»‘’`", set(".!?。！？")
_CLOSES = set(_QUOTES + ">]})|*<")
_OPENED_BY = {")": "(", "]": "[", "}": "{", ">": "<", "”": "“„", "»": "«", "’": "‘", **{c: c for c in "\"'`|*"}}
_MARKS = set(_QUOTES + ":：=→>|]})*")
_DASHES, _BRACKETS = set("-–—"), set(">)]}")


@dataclass(frozen=True)
class Seen:
    """An answer that is looked at, and its prompt."""

    answer: str
    prompt: str = ""

    @classmethod
    def of(cls, answer: str, prompt: str) -> Seen:
        """Keep the beginning and the end of a long answer, and the end of a long prompt, where choices stand."""
        if len(answer) > _HEAD + _TAIL:
            answer = answer[:_HEAD] + answer[-_TAIL:]
        return cls(answer.strip(), prompt[-_PROMPT:])


class _Answer:
    """An answer as units, with the first ones in the form in which they are compared."""

    def __init__(self, seen: Seen) -> None:
        self.text, self.prompt = seen.answer, seen.prompt
        self.units = units(seen.answer, _LONGEST + _BEHIND)
        beginning = self.units[: _LONGEST + 2]
        self.keys = [_key(beginning, i) for i in range(len(beginning))]
        self.ends = [_may_end(self.keys, i) for i in range(len(beginning))]
        self.stops = [_is_stop(self.keys, i) and not self.ends[i] for i in range(len(beginning))]


def _key(answer: Sequence[str], i: int) -> str:
    """Return a unit of an answer as it is compared with others."""
    key = without_numbers(answer[i])
    # The letter of a choice, as in "(B) Paris": one that is followed by a mark, a blank and more.
    letter = len(key) == 1 and key.isascii() and key.isalpha()
    chosen = letter and i + 2 < len(answer) and answer[i + 1][0] in ").:]" and answer[i + 1][-1:].isspace()
    return LETTER if chosen else key


def _is_choice(key: str) -> bool:
    """Tell whether a unit is nothing but a number or a letter."""
    return key.rstrip() in (NUMBER, LETTER)


def _is_word(key: str) -> bool:
    """Tell whether a unit is a word, not a mark, number or letter; scripts without blanks have words of one letter."""
    return sum(c.isalpha() for c in key) > 1 or is_unspaced(key[:1])


def _is_stop(keys: Sequence[str], i: int) -> bool:
    """Tell whether a sentence ends at a unit."""
    core, following = keys[i].rstrip(), keys[i + 1] if i + 1 < len(keys) else "\n"
    return core in _ENDS_SENTENCE and (len(core) < len(keys[i]) or following.isspace() or ord(core) > 127)


def _may_end(keys: Sequence[str], i: int) -> bool:
    """Tell whether the part that differs may begin after a unit."""
    if i + 1 >= len(keys):
        return False
    core, blank, following = keys[i].rstrip(), keys[i].endswith(" "), keys[i + 1]
    before = keys[i - 1] if i else ""
    if keys[i] == "\n":
        return i > 0 and before.rstrip() not in (*_ENDS_SENTENCE, ",", ";")
    if core == "*":
        # Two of them close bold text; one is a bullet, or any column.
        return before == "*"
    if core == ":":
        # Neither an address, nor a time, nor a face.
        between_numbers = before.endswith(NUMBER) and following.startswith(NUMBER)
        return blank or following.isspace() or (following[0] not in "/()\\:" and not between_numbers)
    if core == ".":
        return _is_choice(before) and blank
    if core in _BRACKETS:
        # A face has no other bracket; an arrow needs none.
        return any(key.startswith(_OPENED_BY[core]) for key in keys[:i]) or (core == ">" and before in ("-", "="))
    return core in _MARKS or (core in _DASHES and blank)


@dataclass(frozen=True)
class _Node:
    """Answers that begin alike.

    Attributes:
        answers: The answers.
        counts: How many answers begin like these in the first 0, 1, 2, … units, up to the last unit that these share.
        kin: The answers that begin like these up to the first word.
    """

    answers: Sequence[_Answer]
    counts: tuple[int, ...]
    kin: Sequence[_Answer]

    @property
    def depth(self) -> int:
        return len(self.counts) - 1

    @property
    def keys(self) -> list[str]:
        return self.answers[0].keys[: self.depth]

    @property
    def is_telling(self) -> bool:
        """Tell whether they share more than marks, so that other frames need not begin like this one."""
        return any(_is_word(key) or _is_choice(key) for key in self.keys)

    def children(self, least: int) -> Iterator[tuple[bool, _Node]]:
        """Yield the groups that share one unit more, and whether a frame may end after it."""
        groups: dict[tuple[str, bool], list[_Answer]] = defaultdict(list)
        if self.depth < _LONGEST:
            for answer in self.answers:
                if self.depth < len(answer.keys) and not answer.stops[self.depth]:
                    groups[answer.keys[self.depth], answer.ends[self.depth]].append(answer)
        for (_, ends), answers in groups.items():
            if len(answers) >= least:
                kin = self.kin if any(map(_is_word, self.keys)) else answers
                yield ends, _Node(answers, (*self.counts, len(answers)), kin)

    def next_ends(self, least: int) -> list[_Node]:
        """Find where a frame may end next along each branch, the most frequent first."""
        ended: list[_Node] = []
        ways = [self]
        while ways:
            for ends, child in ways.pop().children(least):
                (ended if ends else ways).append(child)
        return sorted(ended, key=lambda node: (-len(node.answers), node.keys))


def find_frames(seen: Iterable[Seen]) -> list[Frame]:
    """Find the frames that some answers share, the most frequent first, whatever the order of the answers."""
    # The answers come in any order, and of equally frequent units the first is taken, so they are sorted.
    ordered = sorted((each for each in seen if each.answer), key=lambda each: (each.answer, each.prompt))
    answers = [_Answer(each) for each in ordered]
    least = max(_FEWEST, ceil(_LEAST_SHARE * len(answers)))
    root = _Node(answers, (len(answers),), answers)
    beginnings = [end for end in root.next_ends(least) if _numbers_do_not_matter(root, end)]
    counted = chain.from_iterable(_frames(end, least) for end in beginnings)
    return [frame for _, frame in sorted(counted, key=lambda pair: (-pair[0], str(pair[1])))]


def _frames(node: _Node, least: int) -> list[tuple[int, Frame]]:
    """Find the frames that begin like some answers, and how many answers have each."""
    ends = [end for end in node.next_ends(least) if _numbers_do_not_matter(node, end)]
    if ends and _goes_on(node, ends[0]):
        return _frames(ends[0], least)
    if ends and not node.is_telling:
        return [counted for end in ends for counted in _frames(end, least)]
    frame = _frame(node)
    return [(len(node.answers), frame)] if frame else []


def _goes_on(node: _Node, end: _Node) -> bool:
    """Tell whether a frame that may end here goes on to the next possible end.

    A word after a mark that most answers have, but not all, is more likely what most of them say: {"label": "no", …}.
    """
    words = node.is_telling and any(_is_word(key) for key in end.keys[node.depth :])
    return len(end.answers) >= (1 if words else _FIXED) * len(node.answers)


def _numbers_do_not_matter(before: _Node, after: _Node) -> bool:
    """Tell whether numbers and letters that vary within a frame only say which of the prompt's choices it is.

    Numbers that are part of a word, as in "The answer is ans2:", are taken for such where a frame begins. Elsewhere
    they may be what differs, as in "Score: 4. The text is fluent", so what follows has to stand in the prompt.
    """
    keys = after.keys
    alone = [
        i
        for i in range(before.depth, after.depth)
        if (NUMBER in keys[i] and (before.depth or _stands_alone(keys, i))) or keys[i].rstrip() == LETTER
    ]
    varying = [i for i in alone if not _is_fixed(Counter(a.units[i].rstrip() for a in after.answers), after.answers)]
    if not varying:
        return True
    quoted = sum(_quotes(answer, after.depth) for answer in after.answers)
    return quoted > len(after.answers) / 2


def _stands_alone(keys: Sequence[str], i: int) -> bool:
    """Tell whether a number is no part of a word; some scripts have no blanks between words."""
    return _is_choice(keys[i]) and not (i and keys[i - 1][-1:].isalpha())


def _quotes(answer: _Answer, depth: int) -> bool:
    words = "".join(answer.units[depth:]).strip(" \t\n.\"'*")[:_QUOTED]
    return bool(words) and words in answer.prompt


def _is_fixed(counted: Counter[str], among: Sequence[object]) -> bool:
    return bool(counted) and max(counted.values()) >= _FIXED * len(among)


def _frame(node: _Node) -> Frame | None:
    """Make the frame that begins as some answers do; None where taking it away would do more harm than good."""
    keys = node.keys
    first_word = next((i for i, key in enumerate(keys) if _is_word(key)), 0)
    half = max(len(keys) // 2, first_word + 1)
    if len(node.answers) < _FOLLOWS * node.counts[half] or sum(not _is_choice(key) for key in keys) < 2:
        return None
    if sum(_differ_by_a_word(keys, kin.keys) for kin in node.kin) > (1 - _FOLLOWS) * len(node.answers):
        return None
    rests = [answer.units[node.depth :] for answer in node.answers]
    joints, starts = _joints(keys, rests)
    tails = [_tail(answer, rest[start:]) for answer, rest, start in zip(node.answers, rests, starts, strict=True)]
    frame = Frame(tuple(keys), tuple(joints), _end([*keys, *joints], tails))
    return frame if _is_worth_it(frame, node.answers) else None


def _differ_by_a_word(keys: Sequence[str], others: Sequence[str]) -> bool:
    """Tell whether two beginnings differ by one word alone, which then is what they say: "The label is yes:"."""
    different = [(key, other) for key, other in zip(keys, others, strict=False) if key != other]
    return len(different) == 1 and len(others) >= len(keys) and all(map(_is_word, different[0]))


def _is_worth_it(frame: Frame, answers: Sequence[_Answer]) -> bool:
    contents = Counter(frame.own(answer.text) for answer in answers)
    if max(contents.values()) > _MOST_ALIKE * len(answers):
        return False
    return fmean(_part_of_judged(frame, answer) for answer in answers) >= _LEAST_PART


def _part_of_judged(frame: Frame, answer: _Answer) -> float:
    """Compute the frame's share of the part of an answer that is judged."""
    judged = answer.units[:_JUDGED]
    spans = frame.own_spans(answer.text)
    places = accumulate((len(unit) for unit in judged), initial=0)
    own = sum(any(first <= at < last for first, last in spans) for at, _ in zip(places, judged, strict=False))
    return 1 - own / len(judged)


def _is_mark(unit: str) -> bool:
    return not any(c.isalnum() for c in unit)


def _is_joining(unit: str) -> bool:
    """Tell whether a joint may begin or end with a unit."""
    return "\n" in unit or unit.rstrip() in _CLOSES or unit.rstrip() in _MARKS


def _joints(beginning: Sequence[str], rests: Sequence[list[str]]) -> tuple[list[str], list[int]]:
    """Find the joints between the parts that differ, and where in each answer the part after the last joint begins.

    Args:
        beginning: The units that all answers begin with.
        rests: The units of each answer after those.
    """
    places = [_labels(rest) for rest in rests]
    counted = Counter(chain.from_iterable(places))
    labels = [label for label, count in counted.items() if count >= _FIXED * len(rests)]
    first = {label: fmean(of[label][0] for of in places if label in of) for label in labels}
    joints: list[str] = []
    starts = [0] * len(rests)
    for label in sorted(labels, key=lambda label: (first[label], label))[: 4 * _JOINTS]:
        at = {}
        for i, of in enumerate(places):
            if (place := next((p for p in of.get(label, ()) if p >= starts[i]), None)) is not None:
                at[i] = place
        if len(at) < _FIXED * len(rests) or len(joints) == _JOINTS:
            continue
        joint, before = _widened(rests, at, starts, len(label))
        while joint and not _is_opened(joint[0], [*beginning, *joints]):
            joint, before = joint[1:], before - 1
        if not joint or not _is_mark(joint[0]):
            continue
        joints.append("".join(joint))
        for i, place in at.items():
            starts[i] = place - before + len(joint)
    return joints, starts


def _labels(rest: Sequence[str]) -> dict[tuple[str, ...], list[int]]:
    """Find one to three words between two marks, or at the beginning of a line: names of fields, or titles."""
    places: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for i, unit in enumerate(rest):
        if not _is_joining(unit):
            continue
        for length in range(1, 4):
            words, closing = rest[i + 1 : i + 1 + length], rest[i + 1 + length : i + 2 + length]
            if not closing or any(_is_mark(word) for word in words):
                break
            if _is_joining(closing[0]) and "\n" not in closing[0]:
                places[unit, *words, closing[0]].append(i)
    return places


def _widened(
    rests: Sequence[list[str]], at: dict[int, int], starts: Sequence[int], length: int
) -> tuple[list[str], int]:
    """Widen a label by what nearly always stands around it; return it and how many of its units stand before it."""
    label_at, label = next(iter(at.items()))
    joint = rests[label_at][label : label + length]
    before = _fixed_run(lambda n: [rests[i][p - n - 1] for i, p in at.items() if p - n - 1 >= starts[i]], len(at))
    behind = _fixed_run(
        lambda n: [rests[i][p + length + n] for i, p in at.items() if p + length + n < len(rests[i])], len(at)
    )
    # A word next to a joint is a part of the answer that happens to be the same.
    while before and not _is_mark(before[-1]):
        before.pop()
    while behind and not _is_joining(behind[-1]):
        behind.pop()
    return [*before[::-1], *joint, *behind], len(before)


def _fixed_run(nth: Callable[[int], list[str]], among: int) -> list[str]:
    """Find the units that nearly all answers have in successive places, up to the end of a sentence.

    Args:
        nth: Returns the units at a place, counted from 0, of the answers that have one there.
        among: How many answers there are.
    """
    run: list[str] = []
    for place in range(_LONGEST):
        unit, times = max(Counter(nth(place)).items(), key=lambda item: (item[1], item[0]), default=("", 0))
        if times < _FIXED * among or unit.rstrip() in _ENDS_SENTENCE:
            break
        run.append(unit)
    return run


def _tail(answer: _Answer, rest: Sequence[str]) -> list[str]:
    """Return the units at the end of an answer, the last first."""
    if len(answer.units) < _LONGEST + _BEHIND:
        return list(rest[::-1])
    return units(answer.text[-_TAIL:], _TAIL)[::-1]


def _is_opened(unit: str, before: Sequence[str]) -> bool:
    """Tell whether what a unit closes, if anything, was opened in the frame, and not in a part that differs."""
    opening = _OPENED_BY.get(unit.rstrip())
    return opening is None or any(c in unit for unit in before for c in opening)


def _end(before: Sequence[str], tails: Sequence[list[str]]) -> str:
    """Find what follows the last part that differs.

    Args:
        before: The beginning and joints of the frame, which open what the end may close.
        tails: The last units of each answer, the last first.
    """
    end = _fixed_run(lambda n: [tail[n] for tail in tails if n < len(tail)], len(tails))
    while end and not ("\n" in end[-1] or (end[-1].rstrip() in _CLOSES and _is_opened(end[-1], before))):
        end.pop()
    return "".join(end[::-1]).rstrip()
