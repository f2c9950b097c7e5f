"""Teachers: trained once or provided by the user, stored by fingerprint.

teacher         Teacher: a trained network, its logits and importance scores
obtain          from the store, by training, or from the user
derived         earlier states, ensemble members and assistants
store           trained networks and their checkpoints on disk
tensor_file     tensors with a checksum in a file
logits_cache    logits of all training samples in all views
finite_answers  check that outputs are finite
user_module     a user's module and its weights
plain_module    the module without wrappers, with its lazy layers initialised
weights_file    files of weights, read without running code
state_dict      the state dict in a checkpoint, matched with the module's names
"""
