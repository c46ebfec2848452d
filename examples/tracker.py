"""A user's tracker: --run.report_to examples/tracker.py:TextFile writes a run's events into tracker.txt in its folder."""

from dyme import Tracker


class TextFile(Tracker):
    def start(self, config, run):
        self.file = (run.path / "tracker.txt").open("a", encoding="utf-8")
        self.write(f"{config.method.name} after {len(run.steps())} steps")

    def log_step(self, record):
        self.write(f"step {record.step}: reward {record.metrics.get('reward', 0):.2f}")

    def log_evaluation(self, step, name, result):
        self.write(f"{name} after step {step}: {result['metrics']['think_accuracy']['value']:.1%}")

    def log_samples(self, step, groups, routes):
        for group, route in zip(groups, routes, strict=True):
            self.write(f"{route.mode} {group.sample.id}, {len(group.sample.images)} pictures, {group.solved} right")

    def write(self, line):
        print(line, file=self.file, flush=True)
