"""Settings of studies of few short texts, for import by test files."""

SHORT_TRAININGS = """[teacher]
family = "text_cnn"
widths = [16]
depths = [1]
epochs = 6
learning_rate = 0.02
[training]
epochs = 6
batch_size = 16
learning_rate = 0.02
[search]
sampler = "random"
stop = "none"
start = []
"""
