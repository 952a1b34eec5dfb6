"""The base class of values, where it has to be what a frozen dataclass is."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from cni_plugins.frozen import REQUIRED, Frozen, as_dict, fields_of, fresh, replace


class Link(Frozen):
    """Fields with and without a default."""

    name: str
    mac: str = ""
    plan: dict[str, int] = fresh(dict)

    @property
    def shout(self) -> str:
        """A property is no field."""
        return self.name.upper()


class Port(Link):
    """More fields, and another default for one of the base's."""

    mac: str = "?"
    vlan: int = 0


class Pair(Frozen, kw_only=False):
    """Fields in their order."""

    left: int
    right: int = 2


ANY_LINK: Any = Link
ANY_PAIR: Any = Pair
"""For what mypy refuses."""


def test_values_come_from_keywords_and_defaults():
    link = Link(name="lo", mac="0")
    assert (link.name, link.mac, link.plan, link.shout) == ("lo", "0", {}, "LO")
    assert repr(link) == "Link(name='lo', mac='0', plan={})"
    assert as_dict(link) == {"name": "lo", "mac": "0", "plan": {}}


def test_values_in_their_order():
    assert Pair(1) == Pair(1, 2) == Pair(1, right=2) == Pair(right=2, left=1)
    assert Pair(2) != Pair(1)


def test_a_default_that_can_change_is_a_new_one_each_time():
    one, other = Link(name="a"), Link(name="a")
    one.plan["x"] = 1
    assert other.plan == {}


def test_a_subclass_adds_and_changes():
    assert list(fields_of(Port)) == ["name", "mac", "plan", "vlan"]
    assert Port(name="p") == Port(name="p", mac="?", plan={}, vlan=0)
    assert fields_of(Link)["mac"].default == ""
    assert fields_of(Link)["name"].default is REQUIRED


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ANY_LINK(), "Link: name is required"),
        (lambda: ANY_LINK(name="a", nam="b"), "Link has no nam"),
        (lambda: ANY_LINK("a"), "Link takes 0 arguments without their names"),
        (lambda: ANY_PAIR(1, 2, 3), "Pair takes 2 arguments without their names"),
        (lambda: ANY_PAIR(1, left=2), "Pair: left is given twice"),
        (lambda: replace(ANY_PAIR(1), lef=2), "Pair has no lef"),
    ],
)
def test_what_no_value_can_be_made_of(make, text):
    with pytest.raises(TypeError, match=f"^{text}$"):
        make()


def test_nothing_can_be_changed():
    pair = ANY_PAIR(1)
    with pytest.raises(AttributeError, match=r"Pair\.left cannot be changed"):
        pair.left = 2
    with pytest.raises(AttributeError, match=r"Pair\.left cannot be deleted"):
        del pair.left
    with pytest.raises(AttributeError):
        pair.other = 2
    assert replace(pair, left=2) == Pair(2)
    assert pair == Pair(1)


def test_equal_values_of_one_class_are_one_key():
    assert len({Pair(1), Pair(1, 2), Pair(2)}) == 2
    assert Link(name="a") != Port(name="a", mac="")
    assert Link(name="a") != "a"


@pytest.mark.parametrize("value", [Pair(1), Port(name="p", plan={"x": 1})])
def test_copies(value):
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
