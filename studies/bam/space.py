"""Width, bits and way of teaching of a residual network with several tasks: 36 points."""

from nas_compress.values.candidate import Candidate, LossTerm, Teaching


def suggest(trial):
    """Propose one student."""
    width = trial.suggest_categorical("width_multiplier", [0.25, 0.5, 1.0])
    bits = trial.suggest_categorical("weight_bits", [32, 8])
    teacher = trial.suggest_categorical("teacher", ["none", "fixed", "single_tasks"])
    annealing = trial.suggest_categorical("annealing", [False, True])
    losses = (LossTerm(name="task_loss"), LossTerm(name="kd", settings={"temperature": 1.0}))
    teaching = Teaching() if teacher == "none" else Teaching(teacher=teacher, annealing=annealing)
    return Candidate(
        family="resnet", depths=(1, 1, 1), width_multiplier=width, weight_bits=bits,
        losses=losses[:1] if teacher == "none" else losses, teaching=teaching,
    )  # fmt: skip
