"""Which images a Dockerfile needs, read from its text."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle_magic import Image
from lifecycle_magic.exception import InvalidError
from lifecycle_magic.images.dockerfiles import images_in


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FROM scratch\n", ()),
        ("# FROM a\nfrom python:3.11-slim\nRUN true\n", ("python:3.11-slim",)),
        ("FROM a AS b\nFROM B as c\nFROM c\nCOPY --from=0 / /x\nCOPY --from=b y y", ("a",)),
        ("FROM --platform=linux/amd64 a\nCOPY --chown=1 --from=tools:2 /x /y\n", ("a", "tools:2")),
        ("ARG V=1\nARG W=${V}2\nFROM a:$W\n", ("a:12",)),
        ("ARG V\nFROM a:${V:-none}${V:+-slim}\n", ("a:none",)),
        ("ARG GIVEN=1\nFROM a:${GIVEN}${GIVEN:+-slim}\n", ("a:g-slim",)),
        ('ARG V="1"\nFROM a:$V\nARG V=2\nFROM b:$V\n', ("a:1", "b:1")),
        ("FROM \\\n  # a comment\n\n  a\nRUN echo \\\n  FROM b\n", ("a",)),
        ("# escape=`\nFROM `\n  a\n", ("a",)),
        ("ARG NONE\nFROM $NONE\n", ()),
    ],
)  # fmt: skip
def test_images_are_found_with_arguments_expanded_and_without_stages(
    text: str, found: tuple[str, ...]
) -> None:
    assert images_in(text, {"GIVEN": "g"}) == found


def test_a_mount_that_needs_buildkit_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM a\nRUN \\\n  --mount=type=secret,id=token cat /run/secrets/token\n")
    with pytest.raises(InvalidError, match=r"RUN --mount=type=secret,id=token needs BuildKit"):
        Image.from_dockerfile(file)
