"""A process that does what a script does until its first training step, and prints how long each part took.

Run by `benchmarks/startup.py` as `python -m benchmarks.startup_child MODEL BEGUN`, BEGUN in seconds since the epoch.
"""

import json
import sys
import time


def main(model: str, begun: float) -> None:
    """Each part ends where the next begins; the last line printed is JSON, seconds by part."""
    ends = {"interpreter": time.time()}
    import jax

    import jaxinfl
    from jaxinfl import native
    from jaxinfl.compilation_cache import use_compilation_cache
    from jaxinfl.models import build_model

    use_compilation_cache()
    ends["import"] = time.time()
    data = jaxinfl.load_dataset("digits")
    ends["data"] = time.time()
    # From here on `train_ensemble`, taken apart.
    native.prepare()
    built = build_model(model, inputs=data.image_shape, outputs=data.num_classes)
    ends["model"] = time.time()
    native.why_unavailable()
    ends["hand-written kernels"] = time.time()

    def end_last_part(cost: jaxinfl.Cost) -> None:
        """Ends the last part: all programs are compiled, some steps are timed, and training is about to begin."""
        now = time.time()
        ends["XLA compile"] = ends["hand-written kernels"] + cost.compile_seconds
        ends["first steps"] = now

    models = jax.device_count()
    jaxinfl.train_ensemble(
        jaxinfl.draw_subsets(models, data.num_train, ratio=0.1),
        jax.random.split(jax.random.key(0), models),
        data=data,
        model=built,
        recipe=jaxinfl.Recipe(epochs=1),
        progress=False,
        on_cost=end_last_part,
    )
    starts = [begun, *ends.values()]
    seconds = {part: end - start for start, (part, end) in zip(starts, ends.items(), strict=False)}
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
