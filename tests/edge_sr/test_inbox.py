"""Which files of a folder are taken, when, under which name; and where they go."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_sr.errors import ImageError, UsageError
from edge_sr.inbox import REASON, TRIES, Claim, Inbox, Keep

SETTLE_S = 3.0


class Clock:
    """Seconds that pass when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def inbox(tmp_path: Path, clock: Clock) -> Iterator[Inbox]:
    """An inbox whose work writes STEM.png into out/."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    with opened(tmp_path, clock=clock) as box:
        yield box


def opened(tmp_path: Path, *, clock: Callable[[], float], keep: Keep = Keep.FILE) -> Inbox:
    out = tmp_path / "out"
    return Inbox(
        tmp_path / "in",
        settle_s=SETTLE_S,
        again_s=60,
        keep=keep,
        clock=clock,
        products=lambda stem: frozenset({out / f"{stem}.png", out / f"{stem}.std.png"}),
    )


def put(inbox: Inbox, name: str, data: bytes = b"data", *, age: int = 0) -> Path:
    path = inbox.folder / name
    path.write_bytes(data)
    os.utime(path, ns=(10**18 - age, 10**18 - age))
    return path


def take(inbox: Inbox, clock: Clock) -> Claim | None:
    """Takes a file that has lain there for long enough by now."""
    if (claim := inbox.take()) is None:
        clock.now += SETTLE_S
        claim = inbox.take()
    return claim


def taken(inbox: Inbox, clock: Clock) -> list[str]:
    """The names under which all files are taken, and done, in order."""
    found = []
    while (claim := take(inbox, clock)) is not None:
        inbox.finish(claim)
        found.append(claim.path.name)
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# ---- when


def test_a_file_is_taken_once_it_has_not_changed_for_long_enough(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "a.png")
    assert inbox.take() is None
    clock.now = SETTLE_S - 0.1
    assert inbox.take() is None
    clock.now = SETTLE_S
    claim = inbox.take()
    assert claim is not None and claim.path.read_bytes() == b"data"
    assert not (inbox.folder / "a.png").exists()


@pytest.mark.parametrize("change", ["size", "time"])
def test_a_copy_that_goes_on_is_waited_for(inbox: Inbox, clock: Clock, change: str) -> None:
    put(inbox, "a.png")
    inbox.take()
    clock.now = SETTLE_S - 0.1
    put(inbox, "a.png", b"data and more") if change == "size" else put(inbox, "a.png", age=-1)
    assert inbox.take() is None
    clock.now = SETTLE_S + 0.1
    assert inbox.take() is None
    clock.now = 2 * SETTLE_S
    assert inbox.take() is not None


def test_a_file_that_changes_between_the_look_and_its_turn_is_waited_for(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "a.png", age=2)
    put(inbox, "b.png", age=1)
    first = take(inbox, clock)
    assert first is not None
    inbox.finish(first)
    put(inbox, "b.png", b"longer than before")
    assert inbox.take() is None
    assert (inbox.folder / "b.png").exists()


def test_an_empty_file_is_a_copy_that_has_not_begun(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "a.png", b"")
    assert take(inbox, clock) is None
    put(inbox, "a.png")
    assert take(inbox, clock) is not None


def test_a_file_that_was_written_to_after_it_was_taken_is_seen_to_be(inbox: Inbox, clock: Clock) -> None:
    with put(inbox, "a.png").open("ab") as still_open:
        claim = take(inbox, clock)
        assert claim is not None and not claim.has_changed
        still_open.write(b"the rest")
    assert claim.has_changed


def test_the_oldest_comes_first(inbox: Inbox, clock: Clock) -> None:
    for age, name in enumerate(("new", "old", "older")):
        put(inbox, name, age=age)
    assert taken(inbox, clock) == ["older", "old", "new"]


# ---- what


@pytest.mark.parametrize(
    "name",
    [
        *(".hidden.png", "._a.png", "a.png~", "~$a.png", "#a.png#", "a.png.part", "a.tmp", "a.PNG.FILEPART"),
        *("a.crdownload", ".a.png.Xq3f", "Thumbs.db", "desktop.ini", f"a.png{REASON}"),
    ],
)
def test_what_a_copier_an_editor_or_a_desktop_has_there_is_left_alone(
    inbox: Inbox, clock: Clock, name: str
) -> None:
    put(inbox, name)
    assert taken(inbox, clock) == []
    assert (inbox.folder / name).exists()


def test_only_plain_files_are_taken_and_no_link_is_followed(
    inbox: Inbox, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    (inbox.folder / "link.png").symlink_to(tmp_path / "secret")
    (inbox.folder / "dead.png").symlink_to(tmp_path / "nowhere")
    (inbox.folder / "folder.png").mkdir()
    os.mkfifo(inbox.folder / "pipe.png")
    put(inbox, "a.png")
    before = names(inbox.folder) - {"a.png"}
    assert taken(inbox, clock) == ["a.png"]
    assert names(inbox.folder) == before and names(inbox.done) == {"a.png"}


def test_any_name_that_a_file_can_have_can_be_taken(inbox: Inbox, clock: Clock) -> None:
    wanted = {"IM0001", "1.2.840.55", "a b\n.png", os.fsdecode(b"\xff\xfe.png"), "é.png", "-o.png"}
    for name in wanted:
        put(inbox, name)
    assert set(taken(inbox, clock)) == wanted


def test_a_name_that_leaves_no_room_for_a_suffix_is_cut(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "é" * 120 + ".png")
    assert taken(inbox, clock) == ["é" * 98 + ".png"]


# ---- under which name


@pytest.mark.parametrize("there", ["out/a.png", "out/a.std.png", "in/done/a.png", "in/failed/a.png"])
def test_a_name_that_is_taken_gets_a_number(inbox: Inbox, clock: Clock, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_bytes(b"before")
    (tmp_path / "out" / "a-2.png").write_bytes(b"before")
    put(inbox, "a.png")
    assert taken(inbox, clock) == ["a-3.png"]
    assert (tmp_path / there).read_bytes() == b"before"


def test_two_files_whose_results_would_have_one_name_do_not_share_it(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "a.jpg")
    first = take(inbox, clock)
    assert first is not None
    inbox.put_off(first)
    put(inbox, "a.png")
    assert taken(inbox, clock) == ["a-2.png"]


def test_files_named_by_uids_keep_their_names(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "1.2.3.55", age=1)
    put(inbox, "1.2.3.56")
    assert taken(inbox, clock) == ["1.2.3.55", "1.2.3.56"]


# ---- where to


def test_a_file_that_is_done_lies_there_as_it_was(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "a.png")
    claim = take(inbox, clock)
    assert claim is not None
    inbox.finish(claim)
    assert (inbox.done / "a.png").read_bytes() == b"data"
    assert taken(inbox, clock) == []


def test_a_file_that_failed_lies_there_with_the_reason_and_can_be_put_back(
    inbox: Inbox, clock: Clock
) -> None:
    put(inbox, "a.png")
    claim = take(inbox, clock)
    assert claim is not None
    inbox.fail(claim, ImageError(f"{claim.path}: truncated", hint="get it again"))
    told = (inbox.failed / f"a.png{REASON}").read_text()
    assert told.startswith("truncated\nget it again\n") and str(inbox.folder) not in told
    (inbox.failed / "a.png").rename(inbox.folder / "a.png")
    assert names(inbox.done) == set()
    assert taken(inbox, clock) == ["a.png"]


def test_a_file_that_was_put_off_rests_while_others_are_taken(inbox: Inbox, clock: Clock) -> None:
    put(inbox, "a.png", age=1)
    put(inbox, "b.png")
    claim = take(inbox, clock)
    assert claim is not None
    inbox.put_off(claim)
    assert taken(inbox, clock) == ["b.png"]
    clock.now += 60
    again = inbox.take()
    assert again is not None and (again.path.name, again.tries) == ("a.png", 1)


@pytest.mark.parametrize("keep", [Keep.NAME, Keep.NOTHING])
def test_what_is_not_kept_leaves_its_name_or_nothing(inbox: Inbox, clock: Clock, keep: Keep) -> None:
    put(inbox, "a.png")
    root = inbox.folder.parent
    inbox.close()
    with opened(root, clock=clock, keep=keep) as box:
        claim = take(box, clock)
        assert claim is not None
        box.finish(claim)
        assert not claim.path.exists()
        assert names(box.done) == ({"a.png"} if keep is Keep.NAME else set())
        assert all(path.stat().st_size == 0 for path in box.done.iterdir())


# ---- after an end in the middle


def test_what_was_begun_is_taken_up_first_and_after_three_deaths_it_has_failed(
    inbox: Inbox, clock: Clock
) -> None:
    root = inbox.folder.parent
    put(inbox, "deadly.png", age=1)
    put(inbox, "b.png")
    assert take(inbox, clock) is not None
    for tries in range(2, TRIES + 1):
        inbox.close()
        inbox = opened(root, clock=clock)
        claim = inbox.take()
        assert claim is not None and (claim.path.name, claim.tries) == ("deadly.png", tries)
    inbox.close()
    with opened(root, clock=clock) as box:
        assert taken(box, clock) == ["b.png"]
        assert "died 3 times" in (box.failed / f"deadly.png{REASON}").read_text()
        assert (box.failed / "deadly.png").read_bytes() == b"data"


def test_a_folder_has_one_at_work_on_it(inbox: Inbox, clock: Clock) -> None:
    with pytest.raises(UsageError, match="another edge-sr"):
        opened(inbox.folder.parent, clock=clock)
    inbox.close()
    opened(inbox.folder.parent, clock=clock).close()
