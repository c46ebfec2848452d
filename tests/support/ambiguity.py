"""Is a regular expression linear? A proof by its automaton, without running it (after Weideman et al., CIAA 2016).

A backtracking matcher takes no more steps than the pattern's automaton has paths over the text. Their number grows linearly if and
only if no word leads from a state round to itself in two ways (exponential), or from a state to itself, from it to another and from
that one to itself (polynomial). A search begins anew at every character, so its automaton starts with a state that reads anything.
A state from which the pattern surely matches ends the count: what comes before it is not given up any more, and a search goes on
behind it. So the second state must go round without one.

Exact are sets, alternatives, repeats, `^`, `$`, `\\b` and lookarounds of one character; what is left out can only add paths:
longer lookarounds, the commitment of atomic groups, and the upper bound of repeats of groups. So a pattern that passes is linear,
and one that fails may be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from functools import cache, cached_property, partial
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Literal

Use = Literal["search", "match", "fullmatch"]
Test = Callable[[str], bool]
"""Whether a character belongs to a set."""
Guard = tuple[str, Test]
"""("before" or "after", set): the character that must stand there, or no character at all; ("border", word characters)."""
State = tuple[int, str]
"""A position of the pattern and the character that it has read; `_OUTSIDE` is the search before its match."""

_OUTSIDE = -1
_UNROLLED_SET, _UNROLLED_GROUP = 200, 8
"""Repeats up to here are copied; of more, the bound is left out."""
_WORLD = [*map(chr, range(128)), *"éßİſ\u212a²½٣\xa0\u2028°€−’√≈α一あ\u0301\ue000\ue001"]
"""Characters from which one of each kind is taken; those of the pattern itself and the ends of its ranges come to them."""


def growth(pattern: re.Pattern[str], use: Use = "search") -> str:
    """Why `pattern` may take more than linear time, with what a text repeats that shows it; "" if it does not.

    `use`: whether it searches, is tried at one place ("match"), or is held against a whole text ("fullmatch").
    """
    automaton = _Automaton(pattern, use)
    return automaton.exponential() or automaton.polynomial()


class _Automaton:
    """Positions (one for each set in the pattern) and the ways from one to the next."""

    def __init__(self, pattern: re.Pattern[str], use: Use) -> None:
        self.ignorecase = bool(pattern.flags & re.IGNORECASE)
        self.multiline = bool(pattern.flags & re.MULTILINE)
        self.dotall = bool(pattern.flags & re.DOTALL)
        self.sets: dict[int, Test] = {}
        self.ways: dict[int, list[tuple[Guard | None, int]]] = {}
        self.backs: set[int] = set()
        """Ends of repeated bodies, from where a repeat begins anew."""
        self.literals: set[str] = set()
        self.guards: list[Test] = []
        tree = _parser.parse(pattern.pattern, pattern.flags)
        begin, self.end, self.nowhere = self._node(), self._node(), self._node()
        self._build(tree, begin, self.end)
        self.outgoing = {position: self._closure(position + 1) for position in self.sets} | {_OUTSIDE: self._closure(begin)}
        self.ends = use != "fullmatch"
        self.starts = [_OUTSIDE] if use == "search" else []
        self.alphabet = self._alphabet()
        self.read = {position: [c for c in self.alphabet if test(c)] for position, test in self.sets.items()}
        self.steps = cache(self._steps)
        self.unsure_steps = cache(self._unsure_steps)

    def exponential(self) -> str:
        """A loop that can be gone round in two ways."""
        for loop in self.unsure_loops:
            for position, character in loop:
                for after, following in self.unsure_steps(position, character).items():
                    reached = [q for q in following if (q, after) in loop]
                    if len(reached) > len(set(reached)):
                        return f"exponential: two ways to read {after!r} after {character!r}"
            step = partial(self._pairs, loop)
            position, character = next(iter(loop))
            for split, word in self._search((position, position, character), step, lambda state: state[0] != state[1]):
                if any(True for _ in self._search(split, step, lambda state: state[0] == state[1])):
                    return f"exponential: two ways round for {word!r}"
        return ""

    def polynomial(self) -> str:
        """A loop, and another one that is reached by what goes round in both."""
        for second in self.unsure_loops:
            for first in self.loops:
                if (_OUTSIDE, self.alphabet[0]) in first:
                    if word := self._found_again(first, second):
                        return f"polynomial: search and loop both read {word!r} again and again"
                    continue
                for p, character in first:
                    for q, last in second:
                        if last != character or p == q:
                            continue
                        step, goal = partial(self._triples, first, second), (p, q, q, character)
                        for _, word in self._search((p, p, q, character), step, goal.__eq__):
                            return f"polynomial: loop and loop both read {word!r} again and again"
        return ""

    def _found_again(self, search: frozenset[State], loop: frozenset[State]) -> str:
        """What leads from the search into `loop` while the loop reads it too; as the search reads anything, any start in it will do."""
        q, character = next(iter(loop))
        found = self._search((_OUTSIDE, _OUTSIDE, q, character), partial(self._triples, search, loop), lambda s: s[1] == s[2])
        return next((word for _, word in found), "")

    def _pairs(self, loop: frozenset[State], state: tuple[int, int, str]) -> Iterator[tuple[str, tuple[int, int, str]]]:
        a, b, character = state
        others = self.unsure_steps(b, character)
        for after, following in self.unsure_steps(a, character).items():
            for x in following:
                for y in others.get(after, ()):
                    if (x, after) in loop and (y, after) in loop:
                        yield after, (x, y, after)

    def _triples(
        self, one: frozenset[State], two: frozenset[State], state: tuple[int, int, int, str]
    ) -> Iterator[tuple[str, tuple[int, int, int, str]]]:
        a, b, c, character = state
        first, second = self.steps(a, character), self.steps(b, character)
        for after, following in self.unsure_steps(c, character).items():
            for z in following:
                if (z, after) in two:
                    for x in first.get(after, ()):
                        if (x, after) in one:
                            for y in second.get(after, ()):
                                yield after, (x, y, z, after)

    @staticmethod
    def _search(start: Any, step: Callable[[Any], Iterable[tuple[str, Any]]], goal: Callable[[Any], bool]) -> Iterator[tuple[Any, str]]:
        """States that are a goal, after one step at least, each with a word that leads there."""
        seen: dict[Hashable, str] = {}
        waiting = [(start, "")]
        for state, word in waiting:
            for character, reached in step(state):
                if reached not in seen:
                    seen[reached] = word + character
                    if goal(reached):
                        yield reached, word + character
                    waiting.append((reached, word + character))

    @cached_property
    def loops(self) -> list[frozenset[State]]:
        """States that lead back to themselves, by the loop that they are in."""
        return _components(self.graph)

    @cached_property
    def unsure_loops(self) -> list[frozenset[State]]:
        """The same without states from which the pattern surely matches, and without the search."""
        return _components({state: _flat(self.unsure_steps(*state)) for state in self.graph if state[0] != _OUTSIDE})

    @cached_property
    def graph(self) -> Mapping[State, list[State]]:
        graph: dict[State, list[State]] = {}
        waiting = [(start, character) for start in self.starts for character in self.alphabet] or [
            (q, character) for character in self.alphabet for q in self._first(character)
        ]
        while waiting:
            state = waiting.pop()
            if state not in graph:
                graph[state] = _flat(self.steps(*state))
                waiting += graph[state]
        return graph

    def _first(self, character: str) -> list[int]:
        return [q for guards, q in self.outgoing[_OUTSIDE] if character in self.read.get(q, ())]

    def _steps(self, position: int, before: str) -> dict[str, list[int]]:
        """Positions behind `position`, which read `before`, by what they read; one that is reached in two ways is there twice."""
        found: dict[str, list[int]] = {after: [_OUTSIDE] for after in self.alphabet} if position == _OUTSIDE else {}
        for guards, target in self.outgoing[position]:
            for after in self.read.get(target, ()):
                if all(self._holds(guard, before, after) for guard in guards):
                    found.setdefault(after, []).append(target)
        return found

    def _unsure_steps(self, position: int, before: str) -> dict[str, list[int]]:
        """The same without characters at which the match may end behind `position`."""
        ends = [guards for guards, target in self.outgoing[position] if target == self.end and self.ends and position != _OUTSIDE]
        return {
            after: following
            for after, following in self.steps(position, before).items()
            if not any(all(self._holds(guard, before, after) for guard in guards) for guards in ends)
        }

    @staticmethod
    def _holds(guard: Guard, before: str, after: str) -> bool:
        kind, test = guard
        if kind == "border":
            return test(before) != test(after)
        return test(before if kind == "before" else after)

    def _alphabet(self) -> list[str]:
        """One character for each way of belonging to the pattern's sets."""
        tests = [*self.sets.values(), *self.guards]
        kinds: dict[tuple[bool, ...], str] = {}
        for character in sorted(self.literals | set(_WORLD), key=lambda c: (not c.isprintable(), c)):
            kinds.setdefault(tuple(test(character) for test in tests), character)
        return list(kinds.values())

    def _closure(self, node: int) -> list[tuple[tuple[Guard, ...], int]]:
        """(what must hold, position or end) for each way from `node` that reads nothing."""
        found: list[tuple[tuple[Guard, ...], int]] = []

        def go(at: int, guards: tuple[Guard, ...], passed: frozenset[int]) -> None:
            if at in self.sets or at == self.end:
                found.append((guards, at))
            if at not in self.sets:
                for guard, following in self.ways[at]:
                    if not (at in self.backs and following in passed):  # a repeat that reads nothing is never made
                        go(following, (*guards, guard) if guard else guards, passed | {following})

        go(node, (), frozenset({node}))
        return found

    def _node(self) -> int:
        self.ways[len(self.ways)] = []
        return len(self.ways) - 1

    def _link(self, one: int, other: int, guard: Guard | None = None) -> None:
        self.ways[one].append((guard, other))
        if guard:
            self.guards.append(guard[1])

    def _build(self, items: Iterable[tuple[Any, Any]], begin: int, end: int) -> None:
        """Lay the ways of `items`, one after the other, from `begin` to `end`."""
        at = begin
        for op, value in items:
            following = self._node()
            self._lay(op, value, at, following)
            at = following
        self._link(at, end)

    def _lay(self, op: Any, value: Any, at: int, following: int) -> None:
        if test := self._set(op, value):
            self._read(test, at, following)
        elif op is sre.SUBPATTERN:
            self._build(value[3], at, following)
        elif op is sre.ATOMIC_GROUP:
            self._build(value, at, following)
        elif op is sre.BRANCH:
            for branch in value[1]:
                self._build(branch, at, following)
        elif op in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            self._repeat(op, value, at, following)
        elif op in (sre.ASSERT, sre.ASSERT_NOT):
            self._look(op, value, at, following)
        elif op is sre.AT:
            self._link(at, following, self._at(value))
        else:
            raise NotImplementedError(f"{op} in a pattern")

    def _read(self, test: Test, at: int, following: int) -> None:
        position = self._node()
        self.ways[position + 1] = []
        self._link(at, position)
        self._link(position + 1, following)
        self.sets[position] = test

    def _repeat(self, op: Any, value: tuple[int, Any, Any], at: int, following: int) -> None:
        least, most, body = value
        single = self._set(*body[0]) if len(body) == 1 else None
        for _ in range(least):
            reached = self._node()
            self._build(body, at, reached)
            at = reached
        out: Guard | None = None
        if op is sre.POSSESSIVE_REPEAT and single and most is sre.MAXREPEAT:
            out = ("after", lambda c: not single(c))
        if most is sre.MAXREPEAT or most - least > (_UNROLLED_SET if single else _UNROLLED_GROUP):
            loop = self._node()
            self._link(at, loop)
            back = self._node()
            self.backs.add(back)
            self._build(body, loop, back)
            self._link(back, loop)
            self._link(loop, following, out)
            return
        for _ in range(most - least):
            self._link(at, following)
            reached = self._node()
            self._build(body, at, reached)
            at = reached
        self._link(at, following)

    def _look(self, op: Any, value: tuple[int, Any], at: int, following: int) -> None:
        """A lookaround; one ahead that is longer than a character is a way of its own that ends nowhere."""
        direction, body = value
        if tests := self._single(body):
            wanted = op is sre.ASSERT
            test: Test = lambda c: any(one(c) for one in tests) == wanted  # noqa: E731
            self._link(at, following, ("before" if direction < 0 else "after", test))
            return
        if direction > 0:
            self._build(body, at, self.nowhere)
        self._link(at, following)

    def _single(self, body: Any) -> list[Test]:
        """The sets of a lookaround that is one character, whichever branch is taken; empty if it is more."""
        if len(body) != 1:
            return []
        op, value = body[0]
        if test := self._set(op, value):
            return [test]
        if op is sre.SUBPATTERN:
            return self._single(value[3])
        if op is sre.BRANCH:
            each = [self._single(branch) for branch in value[1]]
            return [test for tests in each for test in tests] if all(each) else []
        return []

    def _at(self, value: Any) -> Guard:
        if value in (sre.AT_BOUNDARY, sre.AT_NON_BOUNDARY):
            if value is sre.AT_NON_BOUNDARY:
                raise NotImplementedError("\\B in a pattern")
            return "border", _in_words
        if value is sre.AT_BEGINNING or value is sre.AT_BEGINNING_STRING:
            lines = self.multiline and value is sre.AT_BEGINNING
            return "before", lambda c: lines and c == "\n"
        return "after", lambda c: c == "\n" and value is sre.AT_END

    def _set(self, op: Any, value: Any) -> Test | None:
        """Whether a character is read by an item of the parsed pattern; None for an item that is no set."""
        if op is sre.LITERAL or op is sre.NOT_LITERAL:
            self.literals.add(chr(value))
            same = self._folded(lambda c: c == chr(value))
            return same if op is sre.LITERAL else lambda c: not same(c)
        if op is sre.ANY:
            return (lambda c: True) if self.dotall else (lambda c: c != "\n")
        if op is sre.IN:
            negated = value[0][0] is sre.NEGATE
            parts = [self._part(*item) for item in value[negated:]]
            within = self._folded(lambda c: any(part(c) for part in parts))
            return lambda c: within(c) != negated
        return None

    def _part(self, op: Any, value: Any) -> Test:
        if op is sre.LITERAL:
            self.literals.add(chr(value))
            return lambda c: c == chr(value)
        if op is sre.RANGE:
            self.literals |= {chr(value[0]), chr(value[1])}
            return lambda c: value[0] <= ord(c) <= value[1]
        kinds: dict[str, Test] = {"DIGIT": str.isdecimal, "SPACE": str.isspace, "WORD": _in_words}
        kind = kinds[str(value).rpartition("_")[2]]
        return (lambda c: not kind(c)) if "_NOT_" in str(value) else kind

    def _folded(self, test: Test) -> Test:
        return (lambda c: test(c) or any(test(other) for other in (c.lower(), c.upper()) if len(other) == 1)) if self.ignorecase else test


def _in_words(character: str) -> bool:
    return character.isalnum() or character == "_"


def _flat(steps: Mapping[str, list[int]]) -> list[State]:
    return list(dict.fromkeys((q, after) for after, following in steps.items() for q in following))


def _components(graph: Mapping[State, list[State]]) -> list[frozenset[State]]:
    """Strongly connected components that hold an edge (Tarjan, without recursion)."""
    index: dict[State, int] = {}
    low: dict[State, int] = {}
    stack: list[State] = []
    on: set[State] = set()
    out: list[frozenset[State]] = []
    for root in graph:
        if root in index:
            continue
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        work = [(root, iter(graph[root]))]
        while work:
            state, following = work[-1]
            for reached in following:
                if reached not in index:
                    index[reached] = low[reached] = len(index)
                    stack.append(reached)
                    on.add(reached)
                    work.append((reached, iter(graph[reached])))
                    break
                if reached in on:
                    low[state] = min(low[state], index[reached])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[state])
                if low[state] == index[state]:
                    component = set()
                    while True:
                        member = stack.pop()
                        on.discard(member)
                        component.add(member)
                        if member == state:
                            break
                    if len(component) > 1 or state in graph[state]:
                        out.append(frozenset(component))
    return out
