"""The whole story on one machine, from hospital text to an aligned policy and its report.

    from pathlib import Path
    from common.config import load_study
    from simulations.study import run_study

    summary = run_study(load_study(Path("configs/smoke.toml")), Path("runs/smoke"))

Every stage leaves a marker; `resume=True` skips what is done and goes on inside a stage from its own checkpoints. All randomness
comes from seeds named by study, purpose and step, so a run that was killed ends with the figures of one that was not.
"""

from functools import partial
from pathlib import Path

from common.bases import shared_base
from common.config import Stage, StudyConfig
from common.progress import Progress, Silent
from server.evaluate.summary import Summary
from simulations import path
from simulations.hospitals import source_of
from simulations.machine.measure import Meter
from simulations.machine.workers import Workers, threads
from simulations.report import reporting
from simulations.stages import Stages, open_run
from simulations.world import World


def run_study(
    config: StudyConfig, workdir: Path, *, data: Path | None = None, resume: bool = False, progress: Progress | None = None
) -> Summary:
    """Run `config` in `workdir` and return its figures; RUN/summary.json and RUN/report.html are written last.

    data    a folder of public data sets, for `simulation.source = "public"`
    resume  go on with the run that is in `workdir`, if there is one
    Raises what a stage refuses, as one of `common/errors.py`; after any of them the run can be resumed.
    """
    source = source_of(config, data)
    shared_base(config.model.base, config.model.dtype)  # a base model that is not there is told before anything is written
    run = open_run(workdir.resolve(), config, resume=resume)
    # One thread a process: the same sums on every machine, and no core that spins while it waits for another.
    with run.alone(), threads(1), Meter() as meter, Workers(config.simulation.workers) as workers:
        world, stages = World(run, source, progress or Silent(), workers), Stages(run.path / "stages", meter)
        stages.run("hospitals", partial(path.admit_notes, world))
        stages.run("sft", partial(path.federate, world, Stage.SFT))
        stages.run("candidates", partial(path.sample_candidates, world))
        stages.run("labels", partial(path.label_pairs, world))
        stages.run("pretraining", partial(path.pretrain_preference_model, world))
        stages.run("judges", partial(path.train_judges, world))
        stages.run("constitution", partial(path.judge_by_constitution, world))
        for member in range(config.reward.members):
            stages.run(f"reward-{member}", partial(path.federate, world, Stage.REWARD, member))
        workers.close()  # the hospitals are done; PPO needs their memory
        stages.run("ppo", partial(path.align, world))
        stages.run("evaluation", partial(path.evaluate, world))
        stages.run("yardsticks", partial(path.yardsticks, world))
        stages.run("accounting", partial(reporting.account, run, world.sites, world.progress))
        return reporting.conclude(run, source, stages, meter.reading())
