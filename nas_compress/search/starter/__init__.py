"""Parts of a starter study.

templates  text of the study file and of the head of its space
sounds     length and speakers of a folder of sounds
texts      columns of a file of texts
"""
