"""Parts of a starter study.

templates  text of the study file and of the head of its space
texts      columns of a file of texts
"""
