"""Tasks: the tensors of a network, its base loss and its metrics.

>>> from nas_compress.tasks.image_classification import ImageClassification
>>> digits = ImageClassification(shape=(1, 8, 8), classes=10)
>>> digits.signature.input_names, digits.metrics, digits.chance("accuracy")
(('input',), ('accuracy',), 0.1)

batch                 named tensors of a batch, and their checks against a signature
task                  Task: the Protocol of every task
agreement             limits on the difference between a file and its module
image_classification  raw images to one class
table                 TASKS: the tasks that ship
"""
