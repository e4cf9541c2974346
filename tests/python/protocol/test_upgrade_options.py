"""The two spellings of server.upgrade: by keyword, and in one dict, as a program for Bun has it."""

from __future__ import annotations


def test_options_in_one_dict_as_in_bun(serving):
    """upgrade(request, {"data": ..., "headers": ...}) is read as Bun reads it; other shapes raise TypeError."""
    refused = []

    def fetch(request, server):
        for arguments in (({"dat": 1},), ({"data": 1}, {"headers": {}}), ("data",)):
            try:
                server.upgrade(request, *arguments)
            except TypeError as error:
                refused.append(str(error))
        assert server.upgrade(request, {"data": "of Ada", "headers": {"X-Name": "Ada"}}) is True

    live = serving(fetch=fetch)
    client = live.connect()
    assert live.expect("open")[0].data == "of Ada"
    assert ("x-name", "Ada") in [(name.lower(), value) for name, value in client.answer.headers]
    assert len(refused) == 3
    assert "'dat'" in refused[0]
