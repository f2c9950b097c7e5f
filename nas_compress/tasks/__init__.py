"""Tasks: the tensors of a network, its base loss and its metrics.

>>> from nas_compress.tasks.classification import Classification
>>> digits = Classification.of_images(shape=(1, 8, 8), classes=10)
>>> digits.signature.input_names, digits.metrics, digits.chance("accuracy")
(('input',), ('accuracy',), 0.1)

batch                 named tensors of a batch, and their checks against a signature
task                  Task: the Protocol of every task
agreement             limits on the difference between a file and its module
scores                metrics of answers by scikit-learn
classification        inputs of any kind to one class, raw images among them
multi_label           any number of labels at once
regression            one or several numbers
segmentation          a class for each pixel
own_metrics           another task with metrics of the user
table                 TASKS: the tasks that ship
"""
