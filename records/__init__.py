"""From images to a verified record set: TFRecord shards, an index of each split and a manifest.

The rooms, each importing only those before it: `common`; `image`, from the bytes of a file to
pixels; `format`, the files of a set; `split`; `source`, from a tree to labelled images; `builder`,
`inspect`, `export` and `cluster`; `surveying`. Binaries: `build_main` and `inspect_main`.
"""

from records.common import startup as _startup

_startup.watch()
