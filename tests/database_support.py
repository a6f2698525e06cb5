"""Databases as Caffe's convert_imageset writes them."""

import pytest


def fill_lmdb(folder, values):
    lmdb = pytest.importorskip("lmdb", reason="LMDB needs the extra lmdb")
    with (
        lmdb.open(str(folder), map_size=2**20) as database,
        database.begin(write=True) as transaction,
    ):
        for index, value in enumerate(values):
            transaction.put(b"%08d" % index, value)


def fill_leveldb(folder, values):
    plyvel = pytest.importorskip("plyvel", reason="LevelDB needs the extra leveldb")
    database = plyvel.DB(str(folder), create_if_missing=True)
    for index, value in enumerate(values):
        database.put(b"%08d" % index, value)
    database.close()
