"""Training from scratch: one loop, its objectives and its schedule.

loop             the training loop
objective        loss terms of a batch, with a teacher or a penalty
mutual           the objective of networks that learn together
schedule         learning rate and number of epochs
sparsity         zeros in weights while a network trains
checkpoint       training state in a file, for bit-exact continuation
random_state     states of the random generators
validate         metrics of a network during its training
runtime          device, precision, threads and memory
flat_parameters  many parameters as one for the optimiser
"""
