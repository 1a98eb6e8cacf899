# What jobs need, of the model's size and of the audio's; raised when a job is tried again. And
# which come first.

#: The priority of what nearly everything else waits for, and of what may stop the run. Others have
#: 0.
MUCH_FOLLOWS, BEFORE_ALL = 1, 2


@functools.cache
def audio_mb(name, key):
    """The size of the recordings that a key of a model names; read once, for they may be many."""
    model = CONFIG.models[name]
    if key == "test_wavs" and model.source == "huggingface":
        return sum(file.size for file in on_hub(name, key)) / 1e6
    files = evaluation_files(name) if key == "evaluation" else files_of(name, key)
    return sum(size_of(path) for path in files) / 1e6


def test_wavs_mb(wildcards):
    return audio_mb(wildcards.model, "test_wavs")


def calibration_mb(wildcards):
    return audio_mb(wildcards.model, "calibration_wavs")


def compared_mb(wildcards):
    """The size of what int8 is compared with fp32 on."""
    key = "test_wavs" if test_wavs(wildcards) else "calibration_wavs"
    share = len(compared_wavs(wildcards)) / len(files_of(wildcards.model, key))
    return share * audio_mb(wildcards.model, key)


def observed_mb(wildcards):
    return calibration_mb(wildcards) / int(wildcards.shards)


def evaluation_mb(wildcards):
    return audio_mb(wildcards.model, "evaluation")


def decoded_mb(wildcards):
    return evaluation_mb(wildcards) / int(wildcards.shards)


#: MB of a cluster's job that the two snakemakes hold which run the rule's command there.
AROUND_MB = 300
#: MB of a minute of audio: 16 bits, 16 kHz. What is recorded at a higher rate gets more than it
#: needs, and to stat a file is quicker than to read how long it is.
MINUTE_MB = 1.92


def memory(base, per_mb=0, audio_mb=lambda wildcards: 0):
    """A rule's mem_mb, raised at each retry.

    Args:
        base: MB for a model without weights.
        per_mb: MB for each MB of the checkpoint.
        audio_mb: function of the wildcards: MB of recordings that the rule holds, as floats.
    """

    def mem_mb(wildcards, attempt):
        needed = base + per_mb * checkpoint_mb(wildcards) + 2 * audio_mb(wildcards)
        return math.ceil(needed * attempt + (0 if workflow.local_exec else AROUND_MB))

    return mem_mb


def minutes(base, per_gb=0, per_minute=0, audio_mb=lambda wildcards: 0):
    """A rule's runtime, a limit and no estimate: ten times what was measured, or more. Raised at
    each retry.

    Args:
        base: minutes for a model without weights.
        per_gb: minutes for each GB of the checkpoint.
        per_minute: minutes for each minute of audio.
        audio_mb: function of the wildcards: MB of recordings that the rule works on.
    """

    def runtime(wildcards, attempt):
        audio = audio_mb(wildcards) / MINUTE_MB
        needed = base + per_gb * checkpoint_mb(wildcards) / 1000 + per_minute * audio
        return math.ceil(needed * attempt)

    return runtime
