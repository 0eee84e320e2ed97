"""Numbers on a full disk: the process lives, and what it counted before is shown."""

from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

from mainstay.foundation.metric_files import AllocatedDict
from support.small_disk import fill, small_disk


def keys(file: Path) -> set[str]:
    return {key for key, *_ in MmapedDict.read_all_values_from_file(str(file))}


def test_a_full_disk_ends_no_process_and_loses_no_number(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_kib=1024) as disk:
        before = AllocatedDict(str(disk / "counter_1.db"))
        before.write_value("one", 1.0, 0.0)
        filling = fill(disk)
        late = AllocatedDict(str(disk / "counter_2.db"))
        for each in (before, late):
            for number in range(5000):
                each.write_value(f"{number:0100}", 1.0, 0.0)
            assert each.read_value(f"{4999:0100}") == (1.0, 0.0)
        assert before.read_value("one") == (1.0, 0.0)
        assert "one" in keys(disk / "counter_1.db")
        assert not (disk / "counter_2.db").exists(), "an empty file could not be read"
        filling.unlink()
        for each in (before, late):
            each.close()


def test_there_is_room_for_many_numbers_and_a_new_process_reads_them(tmp_path: Path) -> None:
    file = tmp_path / "counter_1.db"
    numbers = AllocatedDict(str(file))
    for number in range(5000):
        numbers.write_value(f"{number:0100}", float(number), 0.0)
    numbers.close()
    assert len(keys(file)) == 5000
    again = AllocatedDict(str(file))
    assert again.read_value(f"{4999:0100}") == (4999.0, 0.0)
    again.close()
