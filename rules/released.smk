# What goes into a release, under which names, and which models have one.


@told
def release_of(name):
    """What is said of a model where it is published."""
    release = CONFIG.models[name].release
    if release is None:
        raise UserError(
            f"models.{name}.release: missing. Expected its keys `version`, `license` and "
            "`language`, which nobody but a person can say."
        )
    return release


def title_of(name):
    """What a model's archive is called."""
    release = release_of(name)
    return f"sherpa-ncnn-{release.name or name}-{release.version}"


def archive_of(name):
    return f"results/{name}/release/{title_of(name)}.tar.bz2"


#: The models that have a release, and those of them that have a repository to go to.
RELEASED = [name for name, model in CONFIG.models.items() if model.release]
PUBLISHED = [name for name in RELEASED if CONFIG.models[name].release.repo_id]


def released(wildcards):
    """The precisions of a release."""
    release_of(wildcards.model)
    return CONFIG.released(wildcards.model)


def of_every_released(path):
    """A path with {precision} in it, for each precision of a release."""
    return lambda wildcards: expand(path, precision=released(wildcards), model=wildcards.model)


def released_wavs(wildcards):
    return test_wavs(wildcards) if release_of(wildcards.model).test_wavs else []


def about_release(wildcards):
    """What a card is made of and a publication depends on, by the scripts' options."""
    files = reported(wildcards.model)
    found = {key: files[key] for key in ("manifest", "headroom", "targets") if key in files}
    for key in ("verification", "evaluation"):
        if key in files:
            found[key] = [f"results/{{model}}/{key}/{p}.json" for p in released(wildcards)]
    return {key: expand(path, model=wildcards.model) for key, path in found.items()}


ABOUT = ("manifest", "verification", "headroom", "targets", "evaluation")


def wanted_of(names, key, files_of_one):
    """An input function: files of models that have a key, unless they are made on request only."""

    @told
    def inputs(wildcards):
        if not names:
            raise UserError(f"no model has {key}. Expected one in `models`: see publishing.md.")
        return [
            file
            for name in names
            if not CONFIG.models[name].on_request
            for file in files_of_one(name)
        ]

    return inputs
