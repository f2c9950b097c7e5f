"""Run one trial of `moasha.py` in its own process, started by Syne Tune's local backend."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from syne_tune import Reporter

from domains import candidate_of
from finds import Clock, Finds
from workplace import Costs, open_workplace


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--st_config_json_filename", type=Path, required=True)
    given, _ = parser.parse_known_args()
    config = json.loads(given.st_config_json_filename.read_text(encoding="utf-8"))
    place, report = open_workplace(config["study"], config["seed"]), Reporter()
    finds = Finds(folder=Path(config["folder"]), clock=Clock(**json.loads(config["clock"])))

    def tell(epoch: int, costs: Costs) -> bool:
        error, latency, size = costs
        report(epoch=epoch, error=error, latency=latency, size=size)
        return False  # the tuner kills this process where it stops the trial

    model = given.st_config_json_filename.with_name("model.onnx")
    costs = place.try_(candidate_of(place.parts.space.suggest, config), model, tell)
    if costs is not None:
        finds.add(model)  # before the last report, at which the tuner kills
        tell(place.epochs, costs)


if __name__ == "__main__":
    main()
