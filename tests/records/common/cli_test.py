from records.common import cli


def test_tables_are_aligned_whatever_the_letters():
    text = cli.table([("class", "n"), ("새\n줄", 1200), ("a\x1b[2J", 3)])
    assert text.splitlines() == [
        "class         n",
        "새\\n줄    1,200",
        "a\\x1b[2J      3",
    ]
