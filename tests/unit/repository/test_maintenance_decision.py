"""When a repository is compacted, and what is merged."""

from pathlib import Path

from mainstay.repository.maintenance import Leave, MaintenanceSettings, Merge, Rebase, decide, smallest_run
from mainstay.storage.ledger import Pack, PackKind

SETTINGS = MaintenanceSettings(scratch=Path("unused"))


def a_pack(
    number: int, *, size: int = 1000, objects: int = 3, kind: PackKind = "receive", sealed: bool = False
) -> Pack:
    return Pack(
        id=f"P{number}",
        key=f"k{number}",
        sha256="0" * 64,
        size_bytes=size,
        objects=objects,
        kind=kind,
        sealed=sealed,
    )


def test_a_small_repository_is_left_alone() -> None:
    assert decide([a_pack(1), a_pack(2)], SETTINGS) == Leave("2 small packs, 6 objects beside a base of 0")


def test_a_repository_worth_a_bitmap_gets_a_base() -> None:
    assert decide([a_pack(1, objects=1000)], SETTINGS) == Rebase("1000 objects and no base pack")


def test_much_beside_the_base_asks_for_a_new_base() -> None:
    packs = [a_pack(1, objects=1000, kind="base"), a_pack(2, objects=251)]
    assert decide(packs, SETTINGS) == Rebase("251 objects beside a base of 1000")


def test_many_small_packs_are_merged_and_the_base_is_not_touched() -> None:
    base = a_pack(0, objects=100_000, kind="base", size=10**9)
    small = [a_pack(number) for number in range(1, 22)]
    decision = decide([base, *small], SETTINGS)
    assert isinstance(decision, Merge)
    assert set(decision.packs) == set(small)
    assert decision.because == "21 small packs"


def test_sealed_packs_are_not_merged_again() -> None:
    base = a_pack(0, objects=10**6, kind="base")
    packs = [a_pack(number, sealed=True) for number in range(1, 40)]
    assert isinstance(decide([base, *packs], SETTINGS), Leave)


def test_a_run_stops_before_a_pack_that_outweighs_it() -> None:
    small = [a_pack(number, size=10) for number in range(20)]
    large = a_pack(99, size=10_000)
    assert set(smallest_run([large, *small])) == set(small)


def test_ten_thousand_pushes_stay_under_fifty_packs_and_rewrite_little() -> None:
    packs = [a_pack(0, objects=10**7, kind="base", size=10**9)]
    rewritten = 0
    most = 0
    for number in range(1, 10_001):
        packs.append(a_pack(number))
        decision = decide(packs, SETTINGS)
        if isinstance(decision, Merge):
            packs = [pack for pack in packs if pack not in decision.packs]
            size = sum(pack.size_bytes for pack in decision.packs)
            rewritten += size
            objects = sum(pack.objects for pack in decision.packs)
            packs.append(a_pack(100_000 + number, size=size, objects=objects, kind="compact"))
        most = max(most, len(packs))
    assert most <= 50
    assert rewritten < 12 * 10_000 * 1000, "each byte is rewritten a logarithmic number of times"
