"""Archives of pictures: rows of whole samples, rejects for the others, whatever the archive claims."""

import io
import json
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aistudio.catalogue.archives import Damage, Member
from aistudio.catalogue.tar import Tar
from aistudio.errors import ManifestError
from aistudio.parts import split_part
from tests.archives import header, tar_of, zip_of

JPEG = b"\xff\xd8\xff" + b"j" * 700


def sample(key: str, **more: object) -> dict[str, bytes]:
    about = {"caption": f"about {key}", "width": 3, "url": f"https://h/{key}.jpg"} | more
    return {f"{key}.jpg": JPEG, f"{key}.txt": f"text of {key}\n".encode(), f"{key}.json": json.dumps(about).encode()}


def reasons(result) -> list[tuple[int, str]]:
    return [(r["line_number"], r["reason"]) for r in result.rejected]


class TestTar:
    def test_a_sample_becomes_a_row_whose_address_finds_its_bytes(self, read):
        data = tar_of(sample("shoes/001", tags=["a"]) | sample("shoes/002"))
        result = read(data, "webdataset", file="/d/00000.tar")
        row = result.rows[0]
        assert row["row_id"] == "1" and row["item_id"] == "shoes/001" and row["text"] == "text of shoes/001"
        assert row["folder"] == "shoes" and row["file"] == "001.jpg" and row["url"] == "https://h/shoes/001.jpg"
        assert row["caption"] == "about shoes/001" and row["tags"] == '["a"]' and row["manifest_width"] == "3"
        place, part = split_part(result.rows[1]["image_url"])
        assert place == "/d/00000.tar" and part.name == "shoes/002.jpg"
        assert data[part.at : part.at + part.num_bytes] == JPEG
        assert [r["source_line"] for r in result.rows] == [1, 2] and not result.rejected

    @pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
    def test_long_and_foreign_names(self, read, format):
        long = f"{'d' * 90}/{'n' * 80}" if format == tarfile.USTAR_FORMAT else f"{'d' * 150}/{'红' * 60}"
        data = tar_of(sample(long) | sample("短"), format)
        result = read(data, "webdataset")
        assert [r["item_id"] for r in result.rows] == [long, "短"] and not result.rejected

    def test_broken_samples_are_rejected_and_counted(self, read):
        members = [
            *sample("good").items(),
            ("lonely.txt", b"no picture"),
            ("../../x.jpg", JPEG),
            ("/etc/x.jpg", JPEG),
            ("twice.jpg", JPEG), ("twice.jpg", JPEG),
            ("bad.jpg", JPEG), ("bad.json", b"{"),
            ("list.jpg", JPEG), ("list.json", b"[1]"),
            ("latin.jpg", JPEG), ("latin.txt", b"caf\xe9"),
            ("long.jpg", JPEG), ("long.txt", b"x" * 1_000_001),
            (".hidden.jpg", JPEG), ("__MACOSX/a.jpg", JPEG),
            *sample("last").items(),
        ]  # fmt: skip
        result = read(tar_of(members), "webdataset")
        assert [r["item_id"] for r in result.rows] == ["good", "last"]
        assert [reason.split(":")[0] for _, reason in reasons(result)] == [
            "no picture in the sample", "the member's name climbs out of the archive",
            "the member's name climbs out of the archive", "duplicate member", "json", "json",
            "not decodable as utf-8", "txt cannot be read",
        ]  # fmt: skip
        assert result.rows[1]["source_line"] == 10 and result.reading.lines == 10

    def test_json_too_deep_and_halves_of_characters(self, read):
        deep = {"deep.jpg": JPEG, "deep.json": b'{"a":' * 20_000 + b"1" + b"}" * 20_000}
        half = {"half.jpg": JPEG, "half.json": b'{"caption": "\\ud800"}'}
        result = read(tar_of(sample("good") | deep | half), "webdataset")
        assert len(result.rows) == 1 and len(result.rejected) == 2

    def test_several_pictures_of_a_sample(self, read):
        members = {"a.jpg": JPEG, "a.png": JPEG, "a.seg.png": JPEG, "b.jpg": JPEG, "b.txt": b"b"}
        result = read(tar_of(members), "webdataset")
        assert [(r["row_id"], r["image_position"]) for r in result.rows] == [("1:1", 1), ("1:2", 2), ("2", None)]
        chosen = read(tar_of(members), "webdataset", columns={"image_url": "seg.png"})
        assert [r["file"] for r in chosen.rows] == ["a.seg.png"] and reasons(chosen) == [
            (2, "no picture in the sample")
        ]
        several = read(tar_of(members), "webdataset", columns={"image_url": ["seg.png", "jpg"]})
        assert [r["row_id"] for r in several.rows] == ["1:1", "1:2", "2:2"]

    def test_columns_are_mapped_as_in_other_formats(self, read):
        data = tar_of(sample("a", sku="s1") | sample("b", sku=7.0))
        result = read(
            data, "webdataset", columns={"item_id": "sku", "row_id": "key", "fallback_url": "url", "text": "caption"}
        )
        assert [(r["item_id"], r["row_id"], r["text"]) for r in result.rows] == [
            ("s1", "a", "about a"),
            ("7", "b", "about b"),
        ]
        assert result.rows[0]["fallback_url"] == "https://h/a.jpg"
        with pytest.raises(ManifestError, match=r"maps item_id to 'skuu'.*did you mean 'sku'"):
            read(data, "webdataset", columns={"item_id": "skuu"})
        with pytest.raises(ManifestError, match="'txt' is no ending of a picture"):
            read(data, "webdataset", columns={"image_url": "txt"})
        with pytest.raises(ManifestError, match="image_separator"):
            read(data, "webdataset", image_separator="|")

    def test_an_archive_that_was_cut_keeps_what_is_whole_and_says_where_it_ends(self, read):
        data = tar_of(sample("a") | sample("b"))
        ends = [m.at + m.num_bytes for m in Tar(io.BytesIO(data)).members() if isinstance(m, Member)]
        cut = read(data[: ends[3] - 100], "webdataset")  # inside b.jpg
        assert [r["item_id"] for r in cut.rows] == ["a", "b"]  # b fails when its bytes are read
        assert reasons(cut)[0][1].startswith("the archive ends early: inside the member")
        in_header = read(data[: ends[0] + 324 + 100], "webdataset", columns_of=data)
        assert len(in_header.rows) == 1 and "inside a header" in reasons(in_header)[0][1]
        at_an_end = read(data[: 512 + 1024], "webdataset")
        assert len(at_an_end.rows) == 1 and "no end mark" in reasons(at_an_end)[0][1]

    @pytest.mark.parametrize(
        ("block", "reason"),
        [
            (header("x.jpg", 10**15), "the archive ends early"),
            (header("x.jpg", -(10**6)), "a negative size"),
            (b"noise" * 102 + b"xx", "no header of a member"),
            (tarfile.TarInfo("x").tobuf()[:156] + b"L" + tarfile.TarInfo("x").tobuf()[157:], "no header of a member"),
        ],
    )
    def test_absurd_headers_end_the_walk(self, read, block, reason):
        data = tar_of(sample("a"))[: -(-len(JPEG) // 512) * 512 + 512] + block + b"\0" * 4096
        result = read(data, "webdataset")
        assert result.rows[0]["item_id"] == "a" and reasons(result)[-1][1].startswith(reason)

    def test_links_are_rejected_and_folders_passed_over(self, read):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, kind in (("d", tarfile.DIRTYPE), ("l.jpg", tarfile.SYMTYPE)):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = kind, "/etc/passwd"
                tar.addfile(info)
            info = tarfile.TarInfo("a.jpg")
            info.size = len(JPEG)
            tar.addfile(info, io.BytesIO(JPEG))
        result = read(out.getvalue(), "webdataset")
        assert len(result.rows) == 1 and reasons(result) == [(1, "the member is a link: l.jpg")]

    def test_what_is_no_archive_of_pictures_is_refused_with_the_reason(self, read):
        for data, message in (
            (b"x" * 2000, "no header of a member"),
            (b"", "the archive is empty"),
            (tar_of({"a.txt": b"x"}), "endings found: txt"),
        ):
            with pytest.raises(ManifestError, match=message):
                read(data, "webdataset")
        with pytest.raises(ManifestError, match="not done over HTTP"):
            read(tar_of(sample("a")), "webdataset", file="https://h/a.tar")
        with pytest.raises(ManifestError, match="decompress it first"):
            read(tar_of(sample("a")), "webdataset", file="a.tar.gz")

    @settings(max_examples=150, deadline=None)
    @given(data=st.data())
    def test_damage_anywhere_ends_in_rows_or_rejects(self, data):
        whole = bytearray(tar_of(sample("a") | sample("b"), tarfile.PAX_FORMAT))
        for _ in range(data.draw(st.integers(1, 20))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        found = list(Tar(io.BytesIO(bytes(whole[: data.draw(st.integers(0, len(whole)))]))).members())
        assert all(isinstance(m, Member) for m in found[:-1]) and len(found) <= 8
        assert all(isinstance(m, Member | Damage) for m in found)


class TestZip:
    def test_pictures_texts_and_folders(self, read):
        data = zip_of([("shoes/1.jpg", JPEG), ("root.png", JPEG), ("shoes/2.JPG", JPEG), ("shoes/1.txt", b"one")])
        result = read(data, "zip", file="/d/photos.zip")
        assert [(r["row_id"], r["item_id"], r["text"], r["file"]) for r in result.rows] == [
            ("1", "shoes", "one", "1.jpg"), ("2", "photos", "", "root.png"), ("3", "shoes", "", "2.JPG"),
        ]  # fmt: skip
        _, part = split_part(result.rows[0]["image_url"])
        assert part.kind == "zip" and data[part.at : part.at + 4] == b"PK\3\4"

    def test_bombs_traversal_and_encrypted_members_are_rejected(self, read):
        bomb = ("bomb.txt", b"0" * 5_000_000)
        data = bytearray(zip_of([("a.jpg", JPEG), ("bomb.jpg", JPEG), bomb, ("../x.jpg", JPEG), ("secret.jpg", JPEG)]))
        place = data.rindex(b"secret.jpg") - 46  # its entry in the directory
        data[place + 8] |= 1
        result = read(bytes(data), "zip")
        assert [r["file"] for r in result.rows] == ["a.jpg"]
        assert [reason for _, reason in reasons(result)] == [
            "txt cannot be read: 5,000,000 bytes; at most 1,000,000 are read",
            "the member's name climbs out of the archive: ../x.jpg", "the member is encrypted: secret.jpg",
        ]  # fmt: skip

    def test_a_name_that_begins_with_a_nul_is_rejected(self, read):
        data = zip_of([("a.jpg", JPEG), ("x.jpg", JPEG)]).replace(b"x.jpg", b"\0.jpg")
        result = read(data, "zip")
        assert [r["file"] for r in result.rows] == ["a.jpg"]
        assert [reason for _, reason in reasons(result)] == ["the member's name is not valid text: \\x00.jpg"]

    def test_a_member_without_a_name_is_rejected(self, read):
        data = bytearray(zip_of([("a.jpg", JPEG), ("x", JPEG)]))
        place = data.rindex(b"x")  # in the directory, the last thing before the archive's end
        assert data[place - 46 : place - 42] == b"PK\1\2"
        data[place - 18 : place - 16] = b"\0\0"  # length of the name
        data[place - 16 : place - 14] = b"\1\0"  # so that its letter is an extra field, which is no whole one
        result = read(bytes(data), "zip")
        assert [r["file"] for r in result.rows] == ["a.jpg"]
        assert len(result.rejected) == 1

    def test_a_lie_about_the_size_is_found(self, read):
        data = bytearray(zip_of([("a.jpg", JPEG), ("a.txt", b"0" * 3_000_000)]))
        place = data.rindex(b"a.txt") - 46
        data[place + 24 : place + 28] = (1000).to_bytes(4, "little")
        result = read(bytes(data), "zip")
        assert not result.rows and len(result.rejected) == 1

    def test_an_archive_without_its_end_is_one_reject(self, read):
        data = zip_of([("a.jpg", JPEG)])
        result = read(data[:-30], "zip", columns_of=data)
        assert not result.rows and reasons(result)[0][1].startswith("not a whole zip archive")
        with pytest.raises(ManifestError, match="not a whole zip archive"):
            read(data[:-30], "zip")

    @settings(max_examples=100, deadline=None)
    @given(places=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=10))
    def test_damage_anywhere_raises_nothing(self, read, places):
        whole = zip_of([("a.jpg", JPEG), ("a.txt", b"text"), ("b.png", JPEG)], zipfile.ZIP_DEFLATED)
        data = bytearray(whole)
        for place, value in places:
            data[place % len(data)] = value
        result = read(bytes(data), "zip", columns_of=whole)
        assert result.reading.records + result.reading.rejected == result.reading.lines


def test_columns_are_those_of_the_first_samples(read):
    from aistudio.catalogue import inspect_manifest
    from aistudio.config import ManifestSettings

    many = {
        name: data for i in range(400) for name, data in sample(f"{i:04d}", **({"late": 1} if i > 300 else {})).items()
    }
    stream = io.BytesIO(tar_of(many))
    columns = inspect_manifest(stream, "m", ManifestSettings(path="m", format="webdataset"))
    assert "late" not in columns.found and "url" in columns.found
    assert stream.tell() < len(stream.getvalue()) * 0.6


def test_samples_are_those_that_webdataset_sees(read, tmp_path):
    webdataset = pytest.importorskip("webdataset")
    members = sample("a/001") | sample("b.c/002") | {"x.seg.png": JPEG, "x.jpg": JPEG, "plain.jpg": JPEG}
    (tmp_path / "0.tar").write_bytes(tar_of(members))
    theirs = [s["__key__"] for s in webdataset.WebDataset(str(tmp_path / "0.tar"), shardshuffle=False)]
    ours = [r["item_id"] for r in read(tar_of(members), "webdataset").rows]
    assert ours == theirs
