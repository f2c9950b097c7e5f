"""Samples that are no array, read once into a memory-mapped store of the cache.

source      a reader of single samples, which also opens in other processes
block       samples of a block: read, checked and stacked
reader      process that reads blocks for another one
build       a new store: blocks in this process or in several, continued after a stop
layout      files of a store; found and checked before use
identity    name of a store: what a data set of the user holds and names on disk
byte_values floats in steps of 1/255, stored as bytes
pictures    pictures in a folder for each class, found and decoded
class_folders   splits of a folder with a folder for each class
picture_parts   a folder of pictures as parts of a data set
"""
